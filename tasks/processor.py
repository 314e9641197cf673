"""What becomes of the lookups of one delivery: their results are published, the rest waits in Redis for a retry."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

from redis import RedisError

from cardtoken.backoff import Backoff
from cardtoken.contract import Category, Lane
from cardtoken.error_description import describe_error
from tasks import crash_points
from tasks.broker.claims import Claims
from tasks.broker.delivery import Delivery
from tasks.broker.queue_limits import QueueLimits
from tasks.broker.retry_entry import retry_entry
from tasks.calls.engine import Engine
from tasks.calls.retry import next_delivery_time
from tasks.lookups.carried_state import RetryState
from tasks.lookups.lookup import Blocked, Lookup, NotStarted, Postponed, Reason, Settled
from tasks.lookups.outcomes import Failure
from tasks.lookups.progress import MessageProgress, counted, outcome_name, reason_of
from tasks.lookups.reader import RequestReader
from tasks.stores.clock import Clock
from tasks.stores.results import ResultStore
from tasks.telemetry import metrics, reports
from tasks.telemetry.observer import Observer, retried

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Between two attempts to reach Redis.
_BACKOFF: Final = Backoff(0.1, 1.0)


class WorkerStoppingError(Exception):
    """The worker stops while Redis is away: the delivery's message goes back to its queue."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Every lookup of the delivery has its result. ``summary`` counts them by outcome."""

    summary: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Lookups remain, and wait in Redis until ``due``. ``reason`` names the failures, without what was asked for."""

    due: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """Nothing was done: the message is back in its queue, or another delivery of it is being run."""


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What is needed to process the lookups of one provider."""

    provider: str
    reader: RequestReader
    engine: Engine
    observer: Observer


class MessageProcessor:
    """Processes deliveries, on as many threads as call it. ``stopping`` is set when the worker is asked to stop.

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
        self._contexts = contexts
        self._results = results
        self._claims = claims
        self._delivery_limit = delivery_limit
        self._stopping = stopping
        self._redis_is_away = False
        self._one_at_a_time = threading.Lock()

    def process(
        self, delivery: Delivery, requests: list[object], retry: RetryState | None
    ) -> Finished | Deferred | Released:
        """Run the delivery's lookups once; publish what is settled as it settles, and defer what remains.

        Raises ``WorkerStoppingError`` if the worker stops while Redis is away.
        """
        if not self._claims.begin(delivery.claim_id):
            return Released()
        progress = self._process(delivery, requests, retry)
        if progress.all_blocked and self._release_unstarted(delivery, progress.blocked):
            return Released()
        now = self._clock.now()
        remaining = progress.remaining(now)
        if not remaining:
            return Finished(counted(progress.settled) or "nothing left to do")
        return self._defer(delivery, progress, remaining, now)

    def _process(self, delivery: Delivery, requests: list[object], retry: RetryState | None) -> MessageProgress:
        context = self._contexts[delivery.provider]
        left = {lookup.index: lookup for lookup in _lookups(context.reader, delivery, requests, retry)}
        progress = MessageProgress()
        if delivery.redelivered:
            # What the worker that had it before published is not asked for again.
            ask = partial(self._results.published, delivery.task_id, list(left))
            published = self.retry_until_redis_answers(ask)
            self._claims.published(delivery.claim_id, delivery.task_id, published)
            for index in published:
                left.pop(index, None)
        if delivery.revoked:
            failure = Failure(Category.EXPIRED, "revoked before the provider was asked")
            self._fail(context, delivery, left, failure, progress)
        elif delivery.deaths >= self._delivery_limit:
            suspect = self.retry_until_redis_answers(lambda: self._claims.suspected(delivery.claim_id))
            # Without a note none of its lookups ran alone: it only shared the process with the one that crashed.
            guilty = {suspect: left.pop(suspect)} if suspect in left else {}
            failure = Failure(Category.INTERNAL, f"{delivery.deaths} workers have died of it")
            self._fail(context, delivery, guilty, failure, progress)
        try:
            self._run(context, delivery, left, progress)
        except (WorkerStoppingError, RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - an error of ours must not leave lookups without a result
            reports.unexpected(error)
            logger.error("task %s ended in %s", delivery.task_id, describe_error(error))  # noqa: TRY400 - it may quote
            progress = MessageProgress(settled=progress.settled)
            failure = Failure(Category.INTERNAL, "an unexpected error in this service")
            self._fail(context, delivery, left, failure, progress)
        return progress

    def _run(
        self, context: ProviderContext, delivery: Delivery, left: dict[int, Lookup], progress: MessageProgress
    ) -> None:
        """Run the lookups that are due, and remove from ``left`` those that are settled."""
        now = self._clock.now()
        progress.not_started += [lookup for lookup in left.values() if not lookup.is_due(now)]
        due = [lookup for lookup in left.values() if lookup.is_due(now)]
        if delivery.deaths == 0 or delivery.deaths < self._delivery_limit - 1:
            self._run_group(context, delivery, due, left, progress)
            return
        # On the last delivery that the limit allows, one at a time, and no two such at once in this process: if a
        # worker dies once more, the note says of which lookup.
        for lookup in due:
            with self._one_at_a_time:
                self.retry_until_redis_answers(partial(self._claims.mark_running, delivery.claim_id, lookup.index))
                self._run_group(context, delivery, [lookup], left, progress)

    def _run_group(
        self,
        context: ProviderContext,
        delivery: Delivery,
        due: list[Lookup],
        left: dict[int, Lookup],
        progress: MessageProgress,
    ) -> None:
        for batch in context.engine.run(due, delivery.lane):
            settled = [step for step in batch if isinstance(step, Settled)]
            postponed = [step for step in batch if isinstance(step, Postponed)]
            blocked = [step for step in batch if isinstance(step, Blocked)]
            progress.not_started += [step.lookup for step in batch if isinstance(step, NotStarted)]
            self._publish(context, delivery, settled)
            for each in postponed:
                context.observer.postponed(delivery.lane, each)
            context.observer.blocked(delivery.lane, blocked)
            progress.postponed += postponed
            progress.blocked += blocked
            progress.settled.update(outcome_name(step) for step in settled)
            for step in settled:
                del left[step.lookup.index]

    def _fail(
        self,
        context: ProviderContext,
        delivery: Delivery,
        lookups: dict[int, Lookup],
        failure: Failure,
        progress: MessageProgress,
    ) -> None:
        now = self._clock.now()
        self._publish(context, delivery, [Settled(lookup, failure, now) for lookup in lookups.values()])
        progress.settled[str(failure)] += len(lookups)
        lookups.clear()

    def _publish(self, context: ProviderContext, delivery: Delivery, settled: Sequence[Settled]) -> None:
        if not settled:
            return
        again = self.retry_until_redis_answers(
            lambda: self._results.publish(delivery.task_id, context.provider, delivery.lane, settled)
        )
        self._claims.published(delivery.claim_id, delivery.task_id, [step.lookup.index for step in settled])
        crash_points.reached("published")
        for step in settled:
            context.observer.settled(delivery.lane, delivery.task_id, step)
        if again:
            metrics.SUPPRESSED.labels(context.provider).inc(again)
            logger.info("task %s: %d results had been published before", delivery.task_id, again)

    def _release_unstarted(self, delivery: Delivery, blocked: Sequence[Blocked]) -> bool:
        """Return whether a message with nothing but blocked lookups went back to its queue as it was.

        It does if none of the provider's accounts can be asked; else it must not stand in the queue before lookups of
        the accounts that can.
        """
        if not self._contexts[delivery.provider].engine.admission.blocks_all:
            return False
        reasons = {step.reason for step in blocked}
        if delivery.lane is Lane.INTERACTIVE and Reason.RETRY_AFTER in reasons:
            return False  # only bulk queues are left untouched meanwhile; from this one it would be claimed at once
        if reasons & {Reason.RATE_LIMIT, Reason.WORKER}:
            wait = min(step.seconds for step in blocked)
            self._queue_limits.back_off(delivery.queue, wait, self._claims.in_hand()[delivery.queue])
        self._claims.release_unstarted(delivery.claim_id)
        return True

    def _defer(
        self, delivery: Delivery, progress: MessageProgress, remaining: Sequence[Lookup], now: datetime
    ) -> Deferred:
        """Put the remaining lookups into Redis, before the message that they came in is acknowledged."""
        due = next_delivery_time(now, ((each.not_before or now, each.deadline) for each in remaining))
        state = RetryState(lookups=[each.state() for each in remaining])
        entry = retry_entry(delivery, [each.sent for each in remaining], state, due)
        # Made once: if Redis' answer is lost, the same claim is put again, and not another.
        claim_id = uuid4().hex
        self.retry_until_redis_answers(lambda: self._claims.defer(claim_id, delivery.queue, entry, due))
        self._claims.deferred(delivery.claim_id, claim_id, delivery.task_id, [each.index for each in remaining])
        crash_points.reached("deferred")
        seconds = (due - now).total_seconds()
        reason = reason_of(delivery.provider, progress, seconds)
        if progress.postponed:
            # Not for blocked lookups alone: while a provider is down that would be a line for each message, again
            # and again.
            retried(
                task_id=delivery.task_id,
                provider=delivery.provider,
                lane=delivery.lane,
                lookups=len(remaining),
                again_in=seconds,
                why=reason,
            )
        return Deferred(due, reason)

    def retry_until_redis_answers(self, ask: Callable[[], T]) -> T:
        """Call ``ask`` until Redis answers, and return what it returns.

        Raises ``WorkerStoppingError`` if the worker stops meanwhile.
        """
        for pause in _BACKOFF.pauses():
            try:
                answer = ask()
            except (RedisError, OSError) as error:
                # Logged by the first task that meets it, for all of them.
                if not self._redis_is_away:
                    self._redis_is_away = True
                    # Redis' own words name keys and hosts, and none of them a secret.
                    logger.warning("Redis cannot be asked (%s: %.200s); retrying", type(error).__name__, error)
                if self._stopping.wait(pause):
                    raise WorkerStoppingError from None
            else:
                self._redis_is_away = False
                return answer
        raise AssertionError("pauses have no end")


def _lookups(
    reader: RequestReader, delivery: Delivery, requests: list[object], retry: RetryState | None
) -> list[Lookup]:
    place: dict[str, Any] = {"task_id": delivery.task_id, "lane": delivery.lane, "now": delivery.seen}
    if retry is None:
        return reader.read(requests, expires=delivery.expires, replay_of=delivery.replay_of, **place)
    return [each.sooner(delivery.early) for each in reader.resume(requests, retry, **place)]
