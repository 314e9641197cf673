"""The Celery application, and the life of a worker: how it begins, and how it ends."""

from cardtoken import streams
from tasks import ending

if ending.program():
    # Before what follows, which takes a second, and before anything is written.
    ending.take_signals()
    streams.repair()
    streams.ignore_failures()

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any

from celery import Celery, bootsteps
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    celeryd_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from prometheus_client import start_http_server
from redis import Redis, RedisError

from cardtoken import __version__, status
from cardtoken.connection import Endpoint
from cardtoken.contract import Lane
from cardtoken.error_description import describe_error
from config import celeryconfig, inherited, queues
from config.errors import ConfigurationError
from config.settings import Configuration, Settings, load
from tasks import crash_points, pool, processor, startup
from tasks.assembly import Worker, assemble
from tasks.broker.channel import HEALTH_CHECK
from tasks.broker.connection import amqp_of
from tasks.broker.events import BatchedEvents
from tasks.processor import MessageProcessor
from tasks.providers import PROVIDERS
from tasks.stores.clock import RedisClock
from tasks.telemetry import logs, metrics, reports, stacks
from tasks.telemetry.fleet import FleetCollector
from tasks.telemetry.redaction import Redactor
from tasks.telemetry.uncaught import describe_all_errors

logger = logging.getLogger(__name__)

#: Exit status of a process that is configured wrongly: EX_CONFIG of sysexits.h.
EX_CONFIG = 78
#: When the garbage collector runs: after so many allocations that were not freed, and every fifth time with the objects
#: that outlived a run, every tenth with all of them. More seldom, and failures of a dead provider, whose tracebacks are
#: cycles, take 20 MB before they are found.
_GARBAGE = (5_000, 5, 2)
#: Seconds, beside the longest call's, after which a worker that was asked to stop is over; and one asked twice.
_GRACE = 10.0
_ABANDON = 5.0
#: Seconds that a worker waits, when it ends, for its periodic threads together; where they take longer, Redis is away.
_JOINING = 3.0


def _refuse(error: Exception) -> None:
    sys.stderr.write(f"{error}\n")
    sys.exit(EX_CONFIG)


def _configured() -> Configuration:
    try:
        return load({name: provider.account for name, provider in PROVIDERS.items()})
    except ConfigurationError as error:
        _refuse(error)
        raise


def _endpoint(settings: Settings) -> Endpoint:
    password = settings.redis_sentinel_password
    return Endpoint(
        settings.redis_url.get_secret_value(),
        ca_file=settings.redis_ca_file,
        cert_file=settings.redis_cert_file,
        key_file=settings.redis_key_file,
        sentinel_master=settings.redis_sentinel_master or "",
        sentinel_password=password.get_secret_value() if password else None,
    )


def _celery_settings(endpoint: Endpoint) -> dict[str, Any]:
    """The part of Celery's settings that the environment decides.

    Our connections are the endpoint's. The options are for how often kombu looks at them, and for Flower's own
    connection to the broker, which it makes for its page of queues.
    """
    options: dict[str, Any] = {"health_check_interval": HEALTH_CHECK, "socket_timeout": endpoint.socket_timeout}
    if endpoint.sentinel_master:
        options["master_name"] = endpoint.sentinel_master
    if endpoint.sentinel_password:
        options["sentinel_kwargs"] = {"password": endpoint.sentinel_password}
    chosen: dict[str, Any] = {"broker_url": endpoint.url, "broker_transport_options": options}
    if endpoint.url.startswith("rediss://"):
        files = {"ssl_ca_certs": endpoint.ca_file, "ssl_certfile": endpoint.cert_file, "ssl_keyfile": endpoint.key_file}
        named = {name: str(path) for name, path in files.items() if path is not None}
        chosen["broker_use_ssl"] = {"ssl_cert_reqs": "required", **named}
    return chosen


_ignored = inherited.forget(os.environ)
configuration = _configured()
pool.install()
endpoint = _endpoint(configuration.settings)
# Without fixups: DJANGO_SETTINGS_MODULE in the environment is another application's.
app = Celery("cardtoken", set_as_current=True, amqp=amqp_of(endpoint), events=BatchedEvents, fixups=[])
app.config_from_object(celeryconfig)
app.conf.update(_celery_settings(endpoint))
app.conf.task_queues = queues.queues(configuration.accounts)
app.conf.task_routes = {
    f"lookup.{provider}": {"queue": queues.queue_name(provider, Lane.BULK)} for provider in configuration.accounts
}

# Where `celery -A tasks flower` finds its settings, unless it is told of others.
os.environ.setdefault("FLOWER_CONF", str(Path(celeryconfig.__file__).with_name("flowerconfig.py")))

_redactor = Redactor(configuration.secrets)
if ending.program():
    describe_all_errors()
    stacks.show_on_signal()
if ending.program() == "worker":
    logs.begin(configuration.settings.log_format, _redactor)
if _ignored:
    logger.warning(
        "ignored, because this service has settings of its own (REDIS_URL, see .env.example): %s "
        "(-b, --result-backend, --loader and --config set some of them)",
        ", ".join(_ignored),
    )
for _name, _meant in configuration.misspelt:
    logger.warning("%s is set, and there is no such setting; did you mean %s?", _name, _meant)
_stopping = threading.Event()
_shutting_down = threading.Event()
_worker: Worker | None = None


def _lookups() -> MessageProcessor:
    if _worker is None:
        raise RuntimeError("lookups run in a worker: start one with `celery -A tasks worker`")
    return _worker.lookups


for _provider in PROVIDERS:
    processor.register(app, _provider, queues.lane_of, _lookups)


@after_setup_logger.connect(weak=False)
@after_setup_task_logger.connect(weak=False)
def _log(logger: logging.Logger, **_: Any) -> None:
    logs.render([logger], configuration.settings.log_format, _redactor)


def _start_telling(settings: Settings, redis: Redis) -> None:
    """Metrics and Sentry, where they are wanted."""
    if settings.sentry_dsn:
        reports.start(
            settings.sentry_dsn.get_secret_value(),
            environment=settings.environment,
            release=f"cardtoken@{__version__}",
            traces=settings.sentry_traces_sample_rate,
            redactor=_redactor,
        )
    if settings.metrics_port:
        metrics.REGISTRY.register(FleetCollector(lambda: status.look(redis), configuration.accounts))
        try:
            start_http_server(settings.metrics_port, settings.metrics_host, metrics.REGISTRY)
        except OSError as error:
            raise startup.StartupError(
                f"METRICS_PORT {settings.metrics_port} on {settings.metrics_host} cannot be had ({error.strerror}): "
                "give each worker of a host a port of its own, or 0 for none."
            ) from None


@celeryd_init.connect(weak=False)
def _begin(sender: str, options: dict[str, Any], conf: Any, **_: Any) -> None:
    """Check what has to be right, before Celery connects to anything, and assemble the worker."""
    global _worker  # noqa: PLW0603 - a process is a worker or it is not, and Celery tells by this signal alone
    settings = configuration.settings
    logs.tame()
    describe_all_errors()
    stacks.keep_celery_from_showing_variables()
    ending.pidfile = options.get("pidfile")
    ending.leave_after(settings.http_total_timeout + _GRACE, _stopping)
    try:
        redis = endpoint.connect("cardtoken-worker")
        chosen = os.environ.get("CELERY_WORKER_POOL")
        startup.check_pool(options.get("pool") or conf.worker_pool, [*sys.argv, *(["-P", chosen] if chosen else ())])
        startup.check_options(options, conf, settings.redis_url.get_secret_value())
        startup.check_queues(
            options.get("queues") or (),
            excluded=options.get("exclude_queues") or (),
            consumed=[queue.name for queue in queues.queues(configuration.accounts)],
            known=[queue.name for queue in queues.queues(PROVIDERS)],
            switched_off=set(PROVIDERS) - set(configuration.accounts),
        )
        startup.check_redis(redis, endpoint.where)
        if settings.fault_point:
            crash_points.arm(settings.fault_point)
        _start_telling(settings, redis)
        clock = RedisClock(redis)
        clock.measure()
        threads = int(options.get("concurrency") or conf.worker_concurrency)
        _worker = assemble(configuration, redis, name=sender, threads=threads, stopping=_stopping, clock=clock)
    except startup.StartupError as error:
        _refuse(error)
    except Exception as error:  # noqa: BLE001 - Celery would log it and run on without anything of the above
        # Not its text, which may quote what it was given.
        _refuse(startup.StartupError(f"The worker could not be put together ({describe_error(error)})."))


@worker_ready.connect(weak=False)
def _ready(**_: Any) -> None:
    if _worker is not None:
        with contextlib.suppress(RedisError, OSError):  # or else a little later
            _worker.presence.tell()
        for periodic in _worker.periodic:
            periodic.start()
        _collect_less_garbage()
        ending.hand_over()
        signal.signal(signal.SIGQUIT, _abandon)


def _collect_less_garbage() -> None:
    """Look for cycles among what messages leave behind, and seldom: Python's own way takes a tenth of a busy worker."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


class _Stop(bootsteps.StartStopStep):
    """Begin no call any more once the worker ends, whatever asked it to: a signal, or ``celery control shutdown``."""

    def close(self, _: Any) -> None:
        _stopping.set()


app.steps["worker"].add(_Stop)


@worker_shutting_down.connect(weak=False)
def _end(**_: Any) -> None:
    """A second signal means that the operator does not want to wait for the calls under way either."""
    if _shutting_down.is_set():
        # It came while the first was still handled by Celery, whose handler it met.
        _abandon()
    _shutting_down.set()
    _stopping.set()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _abandon)


@worker_shutdown.connect(weak=False)
def _ended(**_: Any) -> None:
    if _worker is not None:
        for periodic in _worker.periodic:
            periodic.stop()
        until = monotonic() + _JOINING
        for periodic in _worker.periodic:
            periodic.join(until)
        _give_all_back(_worker)
        for engine in _worker.engines:
            engine.close()
        _worker.http.close()
        reports.stop()


def _give_all_back(worker: Worker) -> None:
    try:
        worker.claims.give_all_back()
        worker.presence.leave()
    except (RedisError, OSError) as error:
        logger.warning("messages in hand wait for their leases: Redis cannot be asked (%s)", type(error).__name__)


def _abandon(*_: Any) -> None:
    """Give everything back at once, what is running included, and end."""

    def go() -> None:
        if _worker is not None:
            _give_all_back(_worker)
            reports.stop()
        ending.leave()

    # In a thread: the signal may have come in the middle of something that holds a lock which this needs.
    threading.Thread(target=go, name="abandon", daemon=True).start()
    # Redis may not answer.
    abandoned = threading.Event()
    abandoned.set()
    ending.leave_after(_ABANDON, abandoned)
