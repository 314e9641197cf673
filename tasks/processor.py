"""The Celery tasks, one for each provider: lookups in, results out, the rest back to the queue."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import OperationalError
from redis import RedisError

from cardtoken.contract import Category, Lane
from cardtoken.error_description import describe_error
from tasks import crash_points
from tasks.broker.claims import Claims
from tasks.broker.intake import CLAIM, DEATHS, EARLY, EXPIRES, REDELIVERED, REPLAYED, SEEN
from tasks.broker.queue_limits import QueueLimits
from tasks.broker.request import REVOKED
from tasks.broker.transport import DEFERRAL
from tasks.calls.engine import Engine
from tasks.calls.retry import next_delivery_time
from tasks.lookups.carried_state import RetryState
from tasks.lookups.lookup import Blocked, Lookup, NotStarted, Postponed, Reason, Settled
from tasks.lookups.outcomes import Failure, Found, NotFound
from tasks.lookups.reader import RequestReader
from tasks.stores.clock import Clock
from tasks.stores.results import ResultStore
from tasks.telemetry import metrics, reports
from tasks.telemetry.observer import Observer, retried

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds between two tries to reach Redis: the first, and the longest.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


class PendingLookupsError(Exception):
    """Why a message comes back to the queue: which providers' codes are waited out, and how often they came."""


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What the tasks of one provider work with."""

    provider: str
    reader: RequestReader
    engine: Engine
    observer: Observer


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a message, as a task sees it."""

    task_id: str
    claim_id: str
    lane: Lane
    #: Whether it was in a worker's hands before, and how many have died with it.
    redelivered: bool
    deaths: int
    #: When the first worker saw it.
    seen: datetime
    #: How much earlier it is, by Redis' clock, than the clock by which its lookups wait had said it would be.
    early: timedelta
    expires: datetime | None
    revoked: bool
    #: The task that it replays.
    replay_of: str | None


@dataclass(slots=True)
class MessageProgress:
    """How far a message has come: what ended and how, what a failure postpones, what could not be begun, or is held."""

    settled: Counter[str] = field(default_factory=Counter)
    postponed: list[Postponed] = field(default_factory=list)
    not_started: list[Lookup] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)

    @property
    def all_blocked(self) -> bool:
        """Whether nothing was done, because everything is held."""
        return bool(self.blocked) and not (self.settled or self.postponed or self.not_started)

    def remaining(self, now: datetime) -> list[Lookup]:
        """All that is not over, in the order of the list."""
        # Not all at the same moment, where a circuit that holds them may be tried.
        held = [
            step.lookup.waiting_until(now + timedelta(seconds=step.seconds + random.uniform(0, min(1, step.seconds))))  # noqa: S311
            for step in self.blocked
        ]
        return sorted(
            [*(step.lookup for step in self.postponed), *self.not_started, *held], key=lambda each: each.index
        )


class MessageProcessor:
    """All that the tasks share. ``stopping`` is set when the worker is told to end.

    ``delivery_limit`` is how many workers may die with one message.
    """

    def __init__(
        self,
        contexts: Mapping[str, ProviderContext],
        results: ResultStore,
        claims: Claims,
        *,
        queue_limits: QueueLimits,
        delivery_limit: int,
        stopping: threading.Event,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._queue_limits = queue_limits
        self._desks = contexts
        self._results = results
        self._claims = claims
        self._delivery_limit = delivery_limit
        self._stopping = stopping
        self._away = False
        self._alone = threading.Lock()

    def now(self) -> datetime:
        """The moment that Redis' clock shows."""
        return self._clock.now()

    def begin(self, message: Message) -> bool:
        """Whether the message is still this worker's to run."""
        return self._claims.begin(message.claim_id)

    def process(
        self, provider: str, message: Message, requests: list[object], retry: RetryState | None
    ) -> MessageProgress:
        """Bring every lookup of a message one step on, and publish what is settled, as it settles."""
        context = self._desks[provider]
        place: dict[str, Any] = {"task_id": message.task_id, "lane": message.lane, "now": message.seen}
        if retry is None:
            replayed = message.replay_of
            lookups = context.reader.read(requests, expires=message.expires, replay_of=replayed, **place)
        else:
            lookups = [each.sooner(message.early) for each in context.reader.resume(requests, retry, **place)]
        left = {lookup.index: lookup for lookup in lookups}
        progress = MessageProgress()
        if message.redelivered:
            # Somebody had this message before; what they published is not asked for again.
            out = self.retry_until_redis_answers(lambda: self._results.published(message.task_id, list(left)))
            self._claims.published(message.claim_id, message.task_id, out)
            for index in out:
                left.pop(index, None)
        if message.revoked:
            self._fail(
                context, message, left, Failure(Category.EXPIRED, "revoked before the provider was asked"), progress
            )
        elif message.deaths >= self._delivery_limit:
            suspect = self.retry_until_redis_answers(lambda: self._claims.suspected(message.claim_id))
            # Without a note it was not this message's turn when the worker died: it was in bad company.
            guilty = {suspect: left.pop(suspect)} if suspect in left else {}
            words = f"{message.deaths} workers have died of it"
            self._fail(context, message, guilty, Failure(Category.INTERNAL, words), progress)
        try:
            self._run(context, message, left, progress)
        except (Reject, RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - an error of ours must not leave lookups without a result
            reports.unexpected(error)
            logger.error("task %s ended in %s", message.task_id, describe_error(error))  # noqa: TRY400 - it may quote
            progress = MessageProgress(settled=progress.settled)
            failure = Failure(Category.INTERNAL, "an unexpected error in this service")
            self._fail(context, message, left, failure, progress)
        return progress

    def _run(
        self, context: ProviderContext, message: Message, left: dict[int, Lookup], progress: MessageProgress
    ) -> None:
        """Run what is left, taking from it whatever is settled."""
        now = self.now()
        progress.not_started += [lookup for lookup in left.values() if not lookup.is_due(now)]
        due = [lookup for lookup in left.values() if lookup.is_due(now)]
        if message.deaths == 0 or message.deaths < self._delivery_limit - 1:
            self._run_group(context, message, due, left, progress)
            return
        # On the last delivery that the limit allows, one at a time, and no two such at once in this process: if a
        # worker dies once more, it is known of which lookup.
        for lookup in due:
            with self._alone:
                self.retry_until_redis_answers(partial(self._claims.mark_running, message.claim_id, lookup.index))
                self._run_group(context, message, [lookup], left, progress)

    def _run_group(
        self,
        context: ProviderContext,
        message: Message,
        due: list[Lookup],
        left: dict[int, Lookup],
        progress: MessageProgress,
    ) -> None:
        for batch in context.engine.run(due, message.lane):
            settled = [step for step in batch if isinstance(step, Settled)]
            postponed = [step for step in batch if isinstance(step, Postponed)]
            held = [step for step in batch if isinstance(step, Blocked)]
            progress.not_started += [step.lookup for step in batch if isinstance(step, NotStarted)]
            self._publish(context, message, settled)
            for each in postponed:
                context.observer.postponed(message.lane, each)
            context.observer.held(message.lane, held)
            progress.postponed += postponed
            progress.blocked += held
            progress.settled.update(_ending(step) for step in settled)
            for step in settled:
                del left[step.lookup.index]

    def _fail(
        self,
        context: ProviderContext,
        message: Message,
        lookups: dict[int, Lookup],
        failure: Failure,
        progress: MessageProgress,
    ) -> None:
        now = self.now()
        self._publish(context, message, [Settled(lookup, failure, now) for lookup in lookups.values()])
        progress.settled[str(failure)] += len(lookups)
        lookups.clear()

    def release_unstarted(self, provider: str, message: Message, held: Sequence[Blocked]) -> bool:
        """Put a message that is held as a whole back as it is, where its whole queue has to wait; else it goes its way.

        Its lookups wait in Redis then, as they came. Where there are accounts that can be asked, it must not stand
        before them.
        """
        if not self._desks[provider].engine.admission.blocks_all:
            return False
        reasons = {step.reason for step in held}
        if message.lane is Lane.INTERACTIVE and Reason.RETRY_AFTER in reasons:
            return False  # only bulk queues are left untouched meanwhile; in this one it would be taken at once
        if reasons & {Reason.RATE_LIMIT, Reason.WORKER}:
            queue = f"lookup.{provider}.{message.lane}"
            wait = min(step.seconds for step in held)
            self._queue_limits.back_off(queue, wait, self._claims.in_hand()[queue])
        self._claims.release_unstarted(message.claim_id)
        return True

    def note_deferral(self, message: Message, deferral: str, remaining: Sequence[Lookup]) -> None:
        """Note which entry goes on with what remains of a message."""
        self._claims.deferred(message.claim_id, deferral, message.task_id, [each.index for each in remaining])

    def retry_until_redis_answers(self, ask: Callable[[], T]) -> T:
        """Ask Redis until it answers. A worker that is told to end meanwhile gives its message back instead."""
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = ask()
            except (RedisError, OperationalError, OSError) as error:
                # Told by the first task that meets it, for all of them.
                if not self._away:
                    self._away = True
                    # Redis' own words name keys and hosts, and none of them a secret.
                    logger.warning("Redis cannot be asked (%s: %.200s); trying on", type(error).__name__, error)
                if self._stopping.wait(pause):
                    raise Reject("the worker ends while Redis is away", requeue=True) from None
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._away = False
                return answer

    def _publish(self, context: ProviderContext, message: Message, settled: Sequence[Settled]) -> None:
        if not settled:
            return
        again = self.retry_until_redis_answers(
            lambda: self._results.publish(message.task_id, context.provider, message.lane, settled)
        )
        self._claims.published(message.claim_id, message.task_id, [step.lookup.index for step in settled])
        crash_points.reached("published")
        for step in settled:
            context.observer.settled(message.lane, message.task_id, step)
        if again:
            metrics.SUPPRESSED.labels(context.provider).inc(again)
            logger.info("task %s: %d results had been published before", message.task_id, again)


def register(
    app: Celery, provider: str, lane_of: Callable[[str | None], Lane], lookups: Callable[[], MessageProcessor]
) -> None:
    """Add the provider's task to the app. ``lookups`` is asked for when the first message comes, not before."""

    @app.task(
        name=f"lookup.{provider}",
        bind=True,
        typing=False,
        max_retries=None,
        Request="tasks.broker.request:MaskedRequest",
    )
    def lookup(self: "Task[..., str]", requests: list[object], retry: dict[str, Any] | None = None) -> str:
        crash_points.reached("begun")
        try:
            state = RetryState.model_validate(retry) if retry else None
            return _taken(self, lookups(), provider, _message(self, lane_of), requests=requests, retry=state)
        except (Ignore, Reject, Retry):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the message must not disappear
            reports.unexpected(error)
            # Not its text, which may quote what it was given, and which Celery would tell to monitors.
            logger.error("task %s ended in %s", self.request.id, describe_error(error))  # noqa: TRY400 - see above
            raise Reject("an unexpected error in this service", requeue=isinstance(error, RedisError)) from None


def _taken(
    task: "Task[..., str]",
    shared: MessageProcessor,
    provider: str,
    message: Message,
    *,
    requests: list[object],
    retry: RetryState | None,
) -> str:
    """Take a message; what remains of it goes where it waits for its time, and Celery hears of it by an exception."""
    if not shared.begin(message):
        # It went back to its queue before its turn came, and is somebody else's by now.
        raise Ignore
    progress = shared.process(provider, message, requests, retry)
    if progress.all_blocked and shared.release_unstarted(provider, message, progress.blocked):
        raise Ignore
    now = shared.now()
    remaining = progress.remaining(now)
    if not remaining:
        return _counted(progress.settled) or "nothing left to do"
    at = next_delivery_time(now, ((each.not_before or now, each.deadline) for each in remaining))
    countdown = (at - now).total_seconds()
    reason = PendingLookupsError(_reason(provider, progress, countdown))
    kwargs = {
        "requests": [each.sent for each in remaining],
        "retry": RetryState(lookups=[each.state() for each in remaining]).model_dump(mode="json"),
    }
    # Made once: where Redis' answer is lost, the same is put again, and not another.
    headers = {DEFERRAL: uuid4().hex}
    exception = shared.retry_until_redis_answers(lambda: _retry(task, kwargs, reason, at, headers))
    shared.note_deferral(message, headers[DEFERRAL], remaining)
    crash_points.reached("deferred")
    if progress.postponed:
        # Not what is merely held: while a provider is down that would be a line for each message, again and again.
        retried(
            task_id=message.task_id,
            provider=provider,
            lane=message.lane,
            lookups=len(remaining),
            again_in=countdown,
            why=str(reason),
        )
    raise exception


def _message(task: "Task[..., str]", lane_of: Callable[[str | None], Lane]) -> Message:
    request = task.request
    expires = request.get(EXPIRES)
    return Message(
        task_id=str(request.id),
        claim_id=str(request.get(CLAIM)),
        lane=lane_of((request.delivery_info or {}).get("routing_key")),
        redelivered=bool(request.get(REDELIVERED)),
        deaths=int(request.get(DEATHS) or 0),
        seen=datetime.fromisoformat(request.get(SEEN)),
        early=timedelta(seconds=request.get(EARLY) or 0.0),
        expires=datetime.fromisoformat(expires) if expires else None,
        revoked=bool(request.get(REVOKED)),
        replay_of=request.get(REPLAYED),
    )


def _retry(
    task: "Task[..., str]", kwargs: dict[str, Any], why: Exception, at: datetime, headers: dict[str, str]
) -> Exception:
    """Celery's own retry, without its habit of giving up, at a moment that Celery's own clock has no part in."""
    try:
        return task.retry(args=(), kwargs=kwargs, exc=why, eta=at, throw=False, headers=headers)
    except Reject as error:
        # Celery makes a failure to send this, and would drop the message for it.
        reason = error.args[0] if error.args else None
        raise reason if isinstance(reason, Exception) else error from None


def _ending(settled: Settled) -> str:
    match settled.outcome:
        case Found():
            return "found"
        case NotFound():
            return "not_found"
        case failure:
            return str(failure)


_HELD: Final = {
    Reason.CIRCUIT: "held by an open circuit",
    Reason.RATE_LIMIT: "held by the rate limit",
    Reason.RETRY_AFTER: "held because the provider wants to be left alone",
    Reason.WORKER: "held because this worker has no room for a call",
}


def _reason(provider: str, progress: MessageProgress, countdown: float) -> str:
    failures = Counter(f"{step.why} at attempt {step.lookup.attempts}" for step in progress.postponed)
    failures.update(_HELD[step.reason] for step in progress.blocked)
    parts = [f"{provider}: {_counted(failures)}"] if failures else [provider]
    if progress.not_started:
        parts.append(f"{len(progress.not_started)} not yet begun")
    return f"{'; '.join(parts)}; again in {countdown:.1f} s"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())
