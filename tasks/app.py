"""The Celery application: the one place where settings meet classes."""

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

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
from cardtoken.connection import connect
from cardtoken.contract import Lane
from config import celeryconfig, queues
from config.faults import ConfigurationError
from config.settings import Configuration, Settings, load
from tasks import faults, lookup, startup
from tasks.broker import transport
from tasks.broker.claims import Claims
from tasks.broker.connection import Amqp
from tasks.broker.intake import Intake
from tasks.broker.pulse import Pulse
from tasks.broker.throttle import Throttle
from tasks.engine import Engine
from tasks.guard import Guard
from tasks.http import HttpClient, Limits
from tasks.lookup import Desk, Lookups
from tasks.lookups import Reader
from tasks.periodic import Periodic
from tasks.providers import PROVIDERS
from tasks.providers.provider import Account
from tasks.retry import RetryPolicy
from tasks.stores import presence
from tasks.stores.circuits import PAUSE, Circuits
from tasks.stores.permits import RateLimits
from tasks.stores.presence import Presence
from tasks.stores.quarantine import Quarantine
from tasks.stores.results import Bounds, ResultStore
from tasks.stores.retention import Retention
from tasks.telemetry import events, logs, metrics, reports
from tasks.telemetry.events import BatchedEvents
from tasks.telemetry.fleet import FleetCollector
from tasks.telemetry.observer import Observer
from tasks.telemetry.redaction import Redactor
from tasks.threads import CallThreads

logger = logging.getLogger(__name__)

#: Exit status of a process that is configured wrongly: EX_CONFIG of sysexits.h.
EX_CONFIG = 78
#: When the garbage collector runs: after so many allocations that were not freed, and every fifth time with the objects
#: that outlived a run, every tenth with all of them. More seldom, and failures of a dead provider, whose tracebacks are
#: cycles, take 20 MB before they are found.
_GARBAGE = (5_000, 5, 2)


def _refuse(error: Exception) -> None:
    sys.stderr.write(f"{error}\n")
    sys.exit(EX_CONFIG)


def _configured() -> Configuration:
    try:
        return load({name: provider.account for name, provider in PROVIDERS.items()})
    except ConfigurationError as error:
        _refuse(error)
        raise


def _celery_settings(settings: Settings) -> dict[str, Any]:
    """The part of Celery's settings that the environment decides."""
    url = settings.redis_url.get_secret_value()
    options: dict[str, Any] = {"socket_keepalive": True, "health_check_interval": 30}
    if settings.redis_sentinel_master:
        options["master_name"] = settings.redis_sentinel_master
    if settings.redis_sentinel_password:
        options["sentinel_kwargs"] = {"password": settings.redis_sentinel_password.get_secret_value()}
    chosen: dict[str, Any] = {"broker_url": url, "broker_transport_options": options}
    if url.startswith("rediss://"):
        ca_file = str(settings.redis_ca_file) if settings.redis_ca_file else None
        chosen["broker_use_ssl"] = {"ssl_cert_reqs": "required", "ssl_ca_certs": ca_file}
    return chosen


@dataclass(frozen=True, slots=True)
class _Worker:
    """What a worker process has and no other process does."""

    lookups: Lookups
    claims: Claims
    engines: tuple[Engine, ...]
    http: HttpClient
    periodic: tuple[Periodic, ...]
    presence: Presence


configuration = _configured()
app = Celery("cardtoken", set_as_current=True, amqp=Amqp, events=BatchedEvents)
app.config_from_object(celeryconfig)
app.conf.update(_celery_settings(configuration.settings))
app.conf.task_queues = queues.queues(configuration.accounts)
app.conf.task_routes = {
    f"lookup.{provider}": {"queue": queues.queue_name(provider, Lane.BULK)} for provider in configuration.accounts
}

# Where `celery -A tasks flower` finds its settings, unless it is told of others.
os.environ.setdefault("FLOWER_CONF", str(Path(celeryconfig.__file__).with_name("flowerconfig.py")))

_redactor = Redactor(configuration.secrets)
_stopping = threading.Event()
_worker: _Worker | None = None


def _lookups() -> Lookups:
    if _worker is None:
        raise RuntimeError("lookups run in a worker: start one with `celery -A tasks worker`")
    return _worker.lookups


for _provider in PROVIDERS:
    lookup.register(app, _provider, queues.lane_of, _lookups)


def _assemble(redis: Redis, name: str, threads: int) -> _Worker:
    settings = configuration.settings
    limits = Limits(
        connect=settings.http_connect_timeout,
        read=settings.http_read_timeout,
        total=settings.http_total_timeout,
        max_body=settings.http_max_body_bytes,
    )
    http = HttpClient(
        limits,
        settings.provider_concurrency,
        ca_file=str(settings.http_ca_file) if settings.http_ca_file else None,
        use_env_proxies=settings.http_use_env_proxies,
    )
    policy = RetryPolicy(settings.retry_base_delay, settings.retry_max_delay, settings.retry_max_attempts)
    # Longer than any exchange, an access token's included: then whoever made the trial is gone.
    circuits = Circuits(redis, patience=2 * settings.http_total_timeout)
    pacing = configuration.pacing
    rates = {name: each.rate_limit for name, each in pacing.items() if each.rate_limit is not None}
    limits_of_all = RateLimits(redis, rates, settings.interactive_share)
    pulse = Pulse()
    deadlines = {Lane.INTERACTIVE: settings.interactive_deadline, Lane.BULK: settings.bulk_deadline}
    observers = {name: Observer(name, provider.codes) for name, provider in PROVIDERS.items()}
    desks = {
        name: Desk(
            provider=name,
            observer=observers[name],
            reader=Reader(model=provider.request, deadlines=deadlines, result_queues=settings.result_queues),
            engine=Engine(
                provider,
                # Read with the provider's own model, so they are its accounts.
                cast("dict[str, Account]", configuration.accounts.get(name, {})),
                http=http,
                policy=policy,
                threads=CallThreads(
                    settings.provider_concurrency, f"{name}-call", _kept_for_interactive(name, settings, pulse)
                ),
                guard=Guard(name, configuration.accounts.get(name, {}), circuits, limits_of_all),
                observer=observers[name],
                not_found_grace=pacing[name].not_found_grace,
                stopping=_stopping,
            ),
        )
        for name, provider in PROVIDERS.items()
    }
    results = Bounds(settings.result_retention, settings.result_stream_maxlen)
    dead_letters = Bounds(settings.dead_letter_retention, settings.dead_letter_maxlen)
    claims = Claims(redis, settings.lease_seconds, settings.max_message_bytes)
    names = frozenset(f"lookup.{name}" for name in PROVIDERS)
    # Those of a provider that is off too: a queue taken up at run time must not fall to the stock transport.
    ours = frozenset(queue.name for queue in queues.queues(PROVIDERS))
    intake = Intake(names, settings.max_message_bytes, claims, Quarantine(redis, dead_letters), ours)
    retention = Retention(redis, results, dead_letters)
    throttle = Throttle(_shut(desks))
    transport.install(transport.Broker(redis, claims, intake, pulse, throttle, ours, threads))
    there = Presence(redis, claims.worker, name, threads, lambda: (pulse.queues, len(claims), pulse.since))
    return _Worker(
        lookups=Lookups(
            desks,
            ResultStore(redis, results, dead_letters),
            claims,
            throttle=throttle,
            delivery_limit=settings.delivery_limit,
            stopping=_stopping,
        ),
        claims=claims,
        engines=tuple(desk.engine for desk in desks.values()),
        http=http,
        periodic=(
            Periodic("leases", claims.keep, claims.pause),
            Periodic("events", events.flush, events.PAUSE),
            Periodic("reports", reports.flush_gathered, reports.PAUSE),
            Periodic("circuits", circuits.refresh, PAUSE),
            Periodic("retention", retention.sweep_for_all, retention.pause),
            Periodic("presence", there.tell, presence.PAUSE),
        ),
        presence=there,
    )


def _kept_for_interactive(provider: str, settings: Settings, pulse: Pulse) -> Callable[[], int]:
    """How many call threads bulk lookups leave alone: a quarter, where this worker serves both lanes."""
    lanes = {queues.queue_name(provider, lane) for lane in Lane}
    return lambda: settings.provider_concurrency // 4 if lanes <= set(pulse.queues) else 0


def _shut(desks: Mapping[str, Desk]) -> Callable[[str], float | None]:
    """For the throttle: in how many seconds the provider of a bulk queue may be tried, while it cannot be asked."""
    guards = {queues.queue_name(name, Lane.BULK): desk.engine.guard for name, desk in desks.items()}
    return lambda queue: guards[queue].left() if queue in guards else None


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
    try:
        password = settings.redis_sentinel_password
        redis = connect(
            settings.redis_url.get_secret_value(),
            ca_file=settings.redis_ca_file,
            sentinel_master=settings.redis_sentinel_master or "",
            sentinel_password=password.get_secret_value() if password else None,
            client_name="cardtoken-worker",
        )
        startup.check_pool(options.get("pool") or conf.worker_pool, sys.argv)
        startup.check_autoscale(options.get("autoscale"))
        startup.check_queues(
            options.get("queues") or (),
            excluded=options.get("exclude_queues") or (),
            consumed=[queue.name for queue in queues.queues(configuration.accounts)],
            known=[queue.name for queue in queues.queues(PROVIDERS)],
            switched_off=set(PROVIDERS) - set(configuration.accounts),
        )
        startup.check_redis(redis, _where(settings))
        if settings.fault_point:
            faults.arm(settings.fault_point)
        _start_telling(settings, redis)
        _worker = _assemble(redis, sender, int(options.get("concurrency") or conf.worker_concurrency))
    except startup.StartupError as error:
        _refuse(error)
    except Exception as error:  # noqa: BLE001 - Celery would log it and run on without anything of the above
        # The type alone: an exception's text may quote what it was given.
        _refuse(startup.StartupError(f"The worker could not be put together ({type(error).__name__})."))


@worker_ready.connect(weak=False)
def _ready(**_: Any) -> None:
    if _worker is not None:
        with contextlib.suppress(RedisError, OSError):  # or else a little later
            _worker.presence.tell()
        for periodic in _worker.periodic:
            periodic.start()
        _collect_less_garbage()
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
    """Whoever asks a second time does not want to wait for the calls under way either."""
    _stopping.set()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _abandon)


@worker_shutdown.connect(weak=False)
def _ended(**_: Any) -> None:
    if _worker is not None:
        for periodic in _worker.periodic:
            periodic.stop()
        for periodic in _worker.periodic:
            periodic.join()
        _give_all_back(_worker)
        for engine in _worker.engines:
            engine.close()
        _worker.http.close()
        reports.stop()


def _give_all_back(worker: _Worker) -> None:
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
        os._exit(0)

    # In a thread: the signal may have come in the middle of something that holds a lock which this needs.
    threading.Thread(target=go, name="abandon").start()


def _where(settings: Settings) -> str:
    """Redis' address, without user and password."""
    parts = urlsplit(settings.redis_url.get_secret_value().split(";")[0])
    return f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"
