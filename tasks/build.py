"""Build the parts of a worker: the one place where settings meet classes."""

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import cast

from redis import Redis

from cardtoken.contract import Lane
from cardtoken.keys import queue_name, task_name
from cardtoken.other_lists import suffixes
from config import celeryconfig, queues
from config.settings import Configuration, Settings
from tasks import reload
from tasks.broker import events, pool, remote_control, transport
from tasks.broker.claims import Claims
from tasks.broker.heartbeat import LoopHeartbeat
from tasks.broker.intake import Intake
from tasks.broker.queue_limits import QueueLimits
from tasks.calls.admission import Admission
from tasks.calls.attempt import Attempts
from tasks.calls.engine import Engine
from tasks.calls.retry import UNREADABLE, RetryPolicy
from tasks.calls.threads import CallThreads
from tasks.http.client import HttpClient, Limits
from tasks.lookups.reader import RequestReader
from tasks.periodic import Periodic
from tasks.processor import MessageProcessor, ProviderContext
from tasks.providers import PROVIDERS
from tasks.providers.provider import Account
from tasks.reload import Reloader
from tasks.stores import other_lists, presence, waiting
from tasks.stores.circuits import PAUSE, Circuits
from tasks.stores.clock import RedisClock
from tasks.stores.other_lists import OtherListsFinder
from tasks.stores.permits import RateLimits
from tasks.stores.presence import Presence
from tasks.stores.quarantine import Quarantine
from tasks.stores.results import Bounds, ResultStore
from tasks.stores.retention import Retention
from tasks.stores.waiting import WaitingCounter
from tasks.telemetry import reports
from tasks.telemetry.observer import Observer
from tasks.telemetry.signs_of_life import SignsOfLife


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker that something is done with after they were built."""

    processor: MessageProcessor
    claims: Claims
    engines: tuple[Engine, ...]
    http: HttpClient
    periodic: tuple[Periodic, ...]
    presence: Presence
    rate_limits: RateLimits
    attempts: Mapping[str, Attempts]

    def take_up(self, configuration: Configuration) -> None:
        """Use the accounts of this configuration, and their rate limits, from now on."""
        self.rate_limits.replace(_rates(configuration))
        for name, attempts in self.attempts.items():
            attempts.replace(_accounts(configuration, name))

    def progress(self) -> Hashable:
        """Return what changes while messages are worked on; None where none is, or a name is resolved.

        How long that takes is the system's to say.
        """
        if not pool.working or self.http.is_resolving:
            return None
        return self.http.ended, *(engine.progress for engine in self.engines)


def build(
    configuration: Configuration,
    redis: Redis,
    *,
    name: str,
    threads: int,
    stopping: threading.Event,
    clock: RedisClock,
    signs: SignsOfLife,
    heartbeat: LoopHeartbeat,
    reloader: Reloader,
) -> Parts:
    """Build the worker called ``name``, for at most ``threads`` messages at once, and install its transport.

    It begins no call once ``stopping`` is set. Nothing runs yet: no thread is started, no connection opened.
    """
    settings = configuration.settings
    limits = Limits(
        connect=settings.http_connect_timeout,
        read=settings.http_read_timeout,
        total=settings.http_total_timeout,
        idle=settings.http_idle_timeout,
        max_body=settings.http_max_body_bytes,
    )
    http = HttpClient(
        limits,
        settings.provider_concurrency,
        ca_file=str(settings.http_ca_file) if settings.http_ca_file else None,
        use_env_proxies=settings.http_use_env_proxies,
    )
    base, longest = settings.retry_base_delay, settings.retry_max_delay
    policies = {
        lane: RetryPolicy(base, longest, settings.max_attempts(lane), max_unreadable=UNREADABLE[lane]) for lane in Lane
    }
    # Longer than any exchange, an access token's included: then the worker that made the trial is gone.
    circuits = Circuits(redis, patience=2 * settings.http_total_timeout)
    pacing = configuration.pacing
    rate_limits = RateLimits(redis, _rates(configuration), settings.interactive_share)
    deadlines = {Lane.INTERACTIVE: settings.interactive_deadline, Lane.BULK: settings.bulk_deadline}
    observers = {name: Observer(name, provider.codes) for name, provider in PROVIDERS.items()}
    attempts = {
        name: Attempts(
            provider,
            _accounts(configuration, name),
            send=http.send,
            call_timeout=settings.http_total_timeout,
            policies=policies,
            admission=Admission(name, configuration.accounts.get(name, {}), circuits, rate_limits),
            observer=observers[name],
            not_found_grace=pacing[name].not_found_grace,
            stopping=stopping,
            now=clock.now,
            refresh=reloader.look_now,
        )
        for name, provider in PROVIDERS.items()
    }
    contexts = {
        name: ProviderContext(
            provider=name,
            observer=observers[name],
            reader=RequestReader(model=provider.request, deadlines=deadlines, result_queues=settings.result_queues),
            engine=Engine(
                attempts[name],
                CallThreads(
                    settings.provider_concurrency, f"{name}-call", _kept_for_interactive(name, settings, heartbeat)
                ),
                stopping,
            ),
        )
        for name, provider in PROVIDERS.items()
    }
    results = Bounds(settings.result_retention, settings.result_stream_maxlen)
    dead_letters = Bounds(settings.dead_letter_retention, settings.dead_letter_maxlen)
    priorities = suffixes(settings.priority_separators, settings.priority_steps)
    claims = Claims(redis, settings.lease_seconds, settings.max_message_bytes, clock, priorities)
    names = frozenset(map(task_name, PROVIDERS))
    # Those of a provider without an account too: a queue added at run time must not fall to the stock transport.
    ours = frozenset(queue.name for queue in queues.queues(PROVIDERS))
    intake = Intake(
        names, settings.max_message_bytes, claims, Quarantine(redis, dead_letters, clock), ours, clock=clock
    )
    retention = Retention(redis, results, dead_letters)
    counter = WaitingCounter(redis, ours, stopping)
    queue_limits = QueueLimits(_seconds_blocked(contexts))
    remote_control.install()
    reply_exchange = f"reply.{celeryconfig.control_exchange}.pidbox"
    transport.install(
        transport.Broker(
            redis, claims, intake, heartbeat, queue_limits, ours, threads, name=name, reply_exchange=reply_exchange
        )
    )
    engines = tuple(context.engine for context in contexts.values())
    own_presence = Presence(
        redis,
        claims.worker,
        name,
        threads,
        lambda: (heartbeat.queues, len(claims), heartbeat.loop_stalled_seconds),
        clock=clock,
        # A single call may take that long, and be the only one.
        stalled=lambda: max(0.0, *(each.stalled_seconds - settings.http_total_timeout for each in engines)),
        configuration=lambda: (reloader.trouble, reloader.taken_up_at),
    )
    return Parts(
        processor=MessageProcessor(
            contexts,
            ResultStore(redis, results, dead_letters),
            claims,
            queue_limits=queue_limits,
            delivery_limit=settings.delivery_limit,
            stopping=stopping,
            clock=clock,
        ),
        claims=claims,
        engines=engines,
        http=http,
        periodic=(
            Periodic("leases", claims.maintain_leases, claims.pause, signs),
            Periodic("events", events.flush, events.PAUSE, signs),
            Periodic("reports", reports.flush_gathered, reports.PAUSE, signs),
            Periodic("circuits", circuits.refresh, PAUSE, signs),
            Periodic("other lists", OtherListsFinder(redis, ours, priorities).look_for_all, other_lists.PAUSE, signs),
            Periodic("waiting lookups", counter.count_for_all, waiting.PAUSE, signs),
            Periodic("retention", retention.sweep_for_all, retention.pause, signs),
            Periodic("presence", own_presence.report, presence.PAUSE, signs),
            # Without signs of life: the files may be on another host, whose silence is no reason to start anew.
            Periodic("keys and accounts", reloader.look, reload.PAUSE),
        ),
        presence=own_presence,
        rate_limits=rate_limits,
        attempts=attempts,
    )


def _accounts(configuration: Configuration, provider: str) -> Mapping[str, Account]:
    # Read with the provider's own model, so they are its accounts.
    return cast("Mapping[str, Account]", configuration.accounts.get(provider, {}))


def _rates(configuration: Configuration) -> dict[tuple[str, str], float]:
    return {
        (provider, name): account.rate_limit
        for provider in configuration.accounts
        for name, account in _accounts(configuration, provider).items()
        if account.rate_limit is not None
    }


def _kept_for_interactive(provider: str, settings: Settings, heartbeat: LoopHeartbeat) -> Callable[[], int]:
    """Return a function for the call threads kept from bulk lookups: a quarter, if this worker serves both lanes."""
    lanes = {queue_name(provider, lane) for lane in Lane}
    return lambda: settings.provider_concurrency // 4 if lanes <= set(heartbeat.queues) else 0


def _seconds_blocked(contexts: Mapping[str, ProviderContext]) -> Callable[[str], float | None]:
    """Return a function from a bulk queue to the seconds until its provider may be called, or None if it may now."""
    admissions = {queue_name(name, Lane.BULK): context.engine.admission for name, context in contexts.items()}
    return lambda queue: admissions[queue].seconds_until_trial() if queue in admissions else None
