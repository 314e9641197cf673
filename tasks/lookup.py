"""The Celery tasks, one for each provider: lookups in, results out, the rest back to the queue."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from celery import Celery, Task
from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis import RedisError

from cardtoken.contract import Category, Lane
from tasks.broker.intake import EXPIRES_HEADER
from tasks.engine import Engine
from tasks.lookups import Lookup, Postponed, Reader, Settled
from tasks.outcomes import Failure, Found, NotFound
from tasks.retry import next_wave
from tasks.state import RetryState
from tasks.stores.results import ResultStore

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds between two tries to reach Redis: the first, and the longest.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class PendingLookupsError(Exception):
    """Why a message comes back to the queue: which providers' codes are waited out, and how often they came."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the tasks of one provider work with."""

    provider: str
    reader: Reader
    engine: Engine


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a message, as a task sees it."""

    task_id: str
    lane: Lane
    redelivered: bool
    expires: datetime | None


class Lookups:
    """All that the tasks share. ``stopping`` is set when the worker is told to end."""

    def __init__(self, desks: Mapping[str, Desk], results: ResultStore, stopping: threading.Event) -> None:
        self._desks = desks
        self._results = results
        self._stopping = stopping

    def take(
        self, provider: str, message: Message, requests: list[object], retry: RetryState | None
    ) -> tuple[Counter[str], list[Postponed], list[Lookup]]:
        """Bring every lookup of a message one step on, and publish what is settled, as it settles.

        Answers how many ended how, those that a failure postpones, and those whose time has not come yet.
        """
        desk = self._desks[provider]
        now = datetime.now(UTC)
        place: dict[str, Any] = {"task_id": message.task_id, "lane": message.lane, "now": now}
        if retry is None:
            lookups = desk.reader.read(requests, expires=message.expires, **place)
        else:
            lookups = desk.reader.resume(requests, retry, **place)
        if message.redelivered:
            # Somebody had this message before; what they published is not asked for again.
            published = self.insist(lambda: self._results.published(message.task_id))
            lookups = [lookup for lookup in lookups if lookup.index not in published]
        ended: Counter[str] = Counter()
        postponed: list[Postponed] = []
        waiting = [lookup for lookup in lookups if not lookup.is_due(now)]
        open_lookups = {lookup.index: lookup for lookup in lookups}
        try:
            for batch in desk.engine.run(lookup for lookup in lookups if lookup.is_due(now)):
                settled = [step for step in batch if isinstance(step, Settled)]
                postponed += [step for step in batch if isinstance(step, Postponed)]
                self._publish(desk.provider, message, settled)
                ended.update(_ending(step) for step in settled)
                for step in settled:
                    del open_lookups[step.lookup.index]
        except (Reject, RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - an error of ours must not leave lookups without a result
            logger.error("task %s ended in %s", message.task_id, type(error).__name__)  # noqa: TRY400 - it may quote
            failure = Failure(Category.INTERNAL, "an unexpected error in this service")
            now = datetime.now(UTC)
            self._publish(desk.provider, message, [Settled(lookup, failure, now) for lookup in open_lookups.values()])
            ended[Category.INTERNAL] += len(open_lookups)
            return ended, [], []
        return ended, postponed, waiting

    def insist(self, ask: Callable[[], T]) -> T:
        """Ask Redis until it answers. A worker that is told to end meanwhile gives its message back instead."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return ask()
            except (RedisError, OperationalError, OSError) as error:
                if pause == _FIRST_PAUSE:
                    # Redis' own words name keys and hosts, and none of them a secret.
                    logger.warning("Redis cannot be asked (%s: %.200s); trying on", type(error).__name__, error)
                if self._stopping.wait(pause):
                    raise Reject("the worker ends while Redis is away", requeue=True) from None
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _publish(self, provider: str, message: Message, settled: Sequence[Settled]) -> None:
        if settled:
            again = self.insist(lambda: self._results.publish(message.task_id, provider, message.lane, settled))
            if again:
                logger.info("task %s: %d results had been published before", message.task_id, again)


def register(app: Celery, provider: str, lane_of: Callable[[str | None], Lane], lookups: Callable[[], Lookups]) -> None:
    """Add the provider's task to the app. ``lookups`` is asked for when the first message comes, not before."""

    @app.task(
        name=f"lookup.{provider}",
        bind=True,
        typing=False,
        max_retries=None,
        Request="tasks.telemetry.request:MaskedRequest",
    )
    def lookup(self: "Task[..., str]", requests: list[object], retry: dict[str, Any] | None = None) -> str:
        shared = lookups()
        info = self.request.delivery_info or {}
        expires = self.request.get(EXPIRES_HEADER)
        message = Message(
            task_id=str(self.request.id),
            lane=lane_of(info.get("routing_key")),
            redelivered=bool(info.get("redelivered")),
            expires=datetime.fromisoformat(expires) if expires else None,
        )
        state = RetryState.model_validate(retry) if retry else None
        ended, postponed, waiting = shared.take(provider, message, requests, state)
        remaining = sorted([*(step.lookup for step in postponed), *waiting], key=lambda each: each.index)
        if remaining:
            now = datetime.now(UTC)
            at = next_wave(now, ((each.not_before or now, each.deadline) for each in remaining))
            countdown = (at - now).total_seconds()
            reason = PendingLookupsError(_reason(provider, postponed, waiting, countdown))
            kwargs = {
                "requests": [each.sent for each in remaining],
                "retry": RetryState(lookups=[each.state() for each in remaining]).model_dump(mode="json"),
            }
            raise shared.insist(lambda: _send_back(self, kwargs, reason, countdown))
        return _counted(ended) or "nothing left to do"


def _send_back(task: "Task[..., str]", kwargs: dict[str, Any], why: Exception, countdown: float) -> Exception:
    """Put a message back by Celery's own retry; answers the exception that tells Celery of it."""
    try:
        return task.retry(args=(), kwargs=kwargs, exc=why, countdown=countdown, throw=False)
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


def _reason(provider: str, postponed: Iterable[Postponed], waiting: Sequence[Lookup], countdown: float) -> str:
    steps = list(postponed)
    failures = Counter(f"{step.failure} at attempt {step.lookup.attempts}" for step in steps)
    parts = [f"{provider}: {_counted(failures)}"] if failures else [provider]
    if waiting:
        parts.append(f"{len(waiting)} not yet due")
    return f"{'; '.join(parts)}; again in {countdown:.1f} s"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())
