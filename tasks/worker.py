"""The life of a worker process: ``build``, ``start``, ``quiet``, ``stop``; or ``abandon`` in place of the last two.

The order, and the reason for it:

1. **build** runs before Celery connects to anything. A wrong option, setting or server ends the process with its reason
   before a message is taken.
2. **start** runs when Celery consumes. Until then the worker holds nothing, so a signal ends it at once
   (``tasks.ending``); from then on Celery's handlers end it in order. Threads that run periodically start here, as what
   they renew and report exists from here on.
3. **quiet** runs as soon as anything asks the worker to end, and before Celery waits for its running tasks: otherwise
   each of these would go through the rest of its list. The bound for the steps below begins to count here.
4. **stop** runs when no task runs any more. Periodic threads end first, since one of them would renew a lease or report
   a presence that was just given up. Then the messages in hand and the presence go, while there is a connection. Then
   call threads and connections are closed, and Sentry last, since each step before may have something to report.
5. **abandon** runs on a second signal, or on SIGQUIT: the operator does not want to wait for running calls either.
   Everything in hand goes back, running messages included; their results are fenced against a second publication.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from prometheus_client import start_http_server
from redis import Redis, RedisError

from cardtoken import __version__, status
from cardtoken.connection import Endpoint
from cardtoken.error_description import describe_error
from cardtoken.fleet_metrics import FleetCollector
from cardtoken.waiting import WaitingLookups
from config import queues
from config.errors import refuse
from config.settings import Configuration
from config.source import Source
from tasks import crash_points, ending, startup
from tasks.broker.heartbeat import LoopHeartbeat
from tasks.build import Parts, build
from tasks.probes.probes import Probes
from tasks.processor import MessageProcessor
from tasks.providers import PROVIDERS
from tasks.reload import Reloader
from tasks.stores.clock import RedisClock
from tasks.telemetry import logs, metrics, reports, stacks
from tasks.telemetry.redaction import Redactor
from tasks.telemetry.signs_of_life import SignsOfLife
from tasks.telemetry.uncaught import describe_all_errors

logger = logging.getLogger(__name__)

#: Seconds, beside those of the longest call, within which a worker that was asked to stop is over.
_STOP_SECONDS: Final = 10.0
#: Seconds within which a worker that abandons its messages is over.
_ABANDON_SECONDS: Final = 5.0
#: Seconds that a worker waits, when it ends, for its periodic threads together; where they take longer, Redis is away.
_JOIN_SECONDS: Final = 3.0
#: When the garbage collector runs: after so many allocations that were not freed, and every fifth time with the objects
#: that outlived a run, every tenth with all of them. More seldom, and failures of a dead provider, whose tracebacks are
#: cycles, take 20 MB before they are found.
_GARBAGE: Final = (5_000, 5, 2)


class Worker:
    """A worker process. There is one object in each process of the app; it does nothing unless ``build`` is called."""

    def __init__(self, source: Source, configuration: Configuration, endpoint: Endpoint, redactor: Redactor) -> None:
        self._configuration = configuration
        self._reloader = Reloader(source, self._take_up)
        self._endpoint = endpoint
        self._redactor = redactor
        self._stopping = threading.Event()
        self._was_signalled = False
        self._parts: Parts | None = None
        self._signs = SignsOfLife()
        self._heartbeat = LoopHeartbeat(self._signs)
        self._probes: Probes | None = None

    @property
    def processor(self) -> MessageProcessor:
        """Return what runs the lookups of a message. Raises ``RuntimeError`` in a process that is not a worker."""
        if self._parts is None:
            raise RuntimeError("lookups run in a worker: start one with `celery -A tasks worker`")
        return self._parts.processor

    def build(self, name: str, options: Mapping[str, Any], conf: Any) -> None:
        """Check the command line (``options``), Celery's settings (``conf``) and Redis, and build the worker.

        What is wrong ends the process.
        """
        try:
            self._parts = self._built(name, options, conf)
        except startup.StartupError as error:
            refuse(error)
        except Exception as error:  # noqa: BLE001 - Celery would log it and go on without anything of the above
            # Not its text, which may quote what it was given.
            refuse(f"The worker could not be put together ({describe_error(error)}).")

    def _built(self, name: str, options: Mapping[str, Any], conf: Any) -> Parts:
        settings = self._configuration.settings
        logs.tame()
        describe_all_errors()
        stacks.keep_celery_from_showing_variables()
        ending.pidfile = options.get("pidfile")
        _end_after(settings.http_total_timeout + _STOP_SECONDS, self._stopping)
        redis = self._endpoint.connect("cardtoken-worker")
        self._serve_probes(redis)
        self._check(options, conf, redis)
        if settings.fault_point:
            crash_points.arm(settings.fault_point)
        self._start_telemetry(redis)
        clock = RedisClock(redis)
        clock.measure()
        threads = int(options.get("concurrency") or conf.worker_concurrency)
        return build(
            self._configuration,
            redis,
            name=name,
            threads=threads,
            stopping=self._stopping,
            clock=clock,
            signs=self._signs,
            heartbeat=self._heartbeat,
            reloader=self._reloader,
        )

    def _take_up(self, new: Configuration) -> None:
        """Use the keys and accounts of a new configuration; everything else needs a restart."""
        old, self._configuration = self._configuration, new
        # Before anything can have one of them in its text.
        self._redactor.replace(new.secrets)
        self._endpoint.log_in_as(new.settings.endpoint())
        if self._parts is not None:
            self._parts.take_up(new)
        for provider in new.accounts.keys() - old.accounts.keys():
            logger.warning("%s has an account now; restart the workers that are to consume its queues", provider)
        if new.settings.sentry_dsn != old.settings.sentry_dsn:
            self._start_sentry()

    def _serve_probes(self, redis: Redis) -> None:
        """Serve the probes where that is configured, from before Redis is waited for."""
        self._signs.begin("the event loop", always=True)
        self._endpoint.after_each_wait(self._signs.give)
        settings = self._configuration.settings
        if settings.health_port:
            self._probes = Probes(self._signs, self._heartbeat, redis, self._stopping)
            try:
                self._probes.serve(settings.health_host, settings.health_port)
            except OSError as error:
                raise _unusable_port("HEALTH_PORT", settings.health_port, settings.health_host, error) from None

    def _check(self, options: Mapping[str, Any], conf: Any, redis: Redis) -> None:
        accounts = self._configuration.accounts
        chosen = os.environ.get("CELERY_WORKER_POOL")
        startup.check_pool(options.get("pool") or conf.worker_pool, [*sys.argv, *(["-P", chosen] if chosen else ())])
        startup.check_options(options, conf, self._endpoint.url)
        startup.check_queues(
            options.get("queues") or (),
            excluded=options.get("exclude_queues") or (),
            consumed=[queue.name for queue in queues.queues(accounts)],
            known=[queue.name for queue in queues.queues(PROVIDERS)],
            switched_off=set(PROVIDERS) - set(accounts),
        )
        startup.check_redis(redis, self._endpoint.where)

    def _start_telemetry(self, redis: Redis) -> None:
        """Start Sentry and the endpoint of metrics, where they are configured."""
        settings = self._configuration.settings
        self._start_sentry()
        if settings.metrics_port:
            # Queues are counted by one worker of the fleet, and not by each.
            look = partial(self._look, redis, WaitingLookups(redis, counts=False))
            metrics.REGISTRY.register(FleetCollector(look, lambda: self._configuration.accounts))
            try:
                start_http_server(settings.metrics_port, settings.metrics_host, metrics.REGISTRY)
            except OSError as error:
                raise _unusable_port("METRICS_PORT", settings.metrics_port, settings.metrics_host, error) from None

    def _start_sentry(self) -> None:
        settings = self._configuration.settings
        if settings.sentry_dsn:
            reports.start(
                settings.sentry_dsn.get_secret_value(),
                environment=settings.environment,
                release=f"cardtoken@{__version__}",
                traces=settings.sentry_traces_sample_rate,
                redactor=self._redactor,
            )

    def _look(self, redis: Redis, waiting: WaitingLookups) -> status.ServiceStatus:
        """Look at the whole for a request of metrics, whose thread is none of those that work on messages."""
        self._signs.begin("a request of metrics")
        try:
            return status.look(redis, waiting)
        finally:
            self._signs.end()

    def start(self) -> None:
        """Report the presence, start what runs periodically, and leave signals to Celery."""
        if self._parts is None:
            return
        with contextlib.suppress(RedisError, OSError):  # the periodic report follows
            self._parts.presence.report()
        try:
            for periodic in self._parts.periodic:
                periodic.start()
            if self._probes is not None:
                self._probes.consuming(self._parts.progress, self._configuration.settings.http_total_timeout)
        except (RuntimeError, MemoryError):  # Celery would log it and consume without what renews the leases
            logger.critical("no thread can be started: raise the limit of processes and threads, or of memory")
            self._release_messages(self._parts)
            ending.leave(status=1)
        _collect_garbage_seldom()
        ending.hand_over()
        signal.signal(signal.SIGQUIT, self._on_signal)

    def obey_signal(self) -> None:
        """Become quiet on the first signal that asks to stop, and abandon everything on the next."""
        if self._was_signalled:
            # It came while Celery's handler for the first was still running.
            self.abandon()
        self._was_signalled = True
        self.quiet()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)

    def quiet(self) -> None:
        """Begin no call any more. Calls that run end and are published."""
        self._stopping.set()

    def stop(self) -> None:
        """Release what the worker holds, in Redis and in this process, once its tasks have ended."""
        if self._parts is None:
            return
        for periodic in self._parts.periodic:
            periodic.stop()
        until = time.monotonic() + _JOIN_SECONDS
        for periodic in self._parts.periodic:
            periodic.join(until)
        self._release_messages(self._parts)
        for engine in self._parts.engines:
            engine.close()
        self._parts.http.close()
        reports.stop()

    def abandon(self) -> None:
        """Give everything back at once, running messages included, and end the process within a few seconds."""

        def give_back_and_leave() -> None:
            if self._parts is not None:
                self._release_messages(self._parts)
                reports.stop()
            ending.leave()

        # In a thread: the signal may have interrupted code that holds a lock which this needs.
        threading.Thread(target=give_back_and_leave, name="abandon", daemon=True).start()
        # Redis may not answer.
        abandoned = threading.Event()
        abandoned.set()
        _end_after(_ABANDON_SECONDS, abandoned)

    def _on_signal(self, *_: Any) -> None:
        self.abandon()

    @staticmethod
    def _release_messages(parts: Parts) -> None:
        try:
            parts.claims.release_all()
            parts.presence.leave()
        except (RedisError, OSError) as error:
            logger.warning("messages in hand wait for their leases: Redis cannot be asked (%s)", type(error).__name__)


def _unusable_port(setting: str, port: int, host: str, error: OSError) -> startup.StartupError:
    return startup.StartupError(
        f"{setting} {port} on {host} cannot be used ({error.strerror}): give each worker of a host a port of its own, "
        "or 0 for none."
    )


def _end_after(seconds: float, begun: threading.Event) -> None:
    """End the process ``seconds`` after ``begun`` is set, whatever it waits for then: the last resort."""

    def watch() -> None:
        begun.wait()
        time.sleep(seconds)
        ending.leave()

    threading.Thread(target=watch, name="last resort", daemon=True).start()


def _collect_garbage_seldom() -> None:
    """Search for cycles only among what messages leave behind: Python's defaults cost a busy worker a tenth."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
