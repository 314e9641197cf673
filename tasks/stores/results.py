"""Publication: each result once, also when a message is delivered or run twice."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from cardtoken import keys
from cardtoken.contract import (
    REPLY_EXPIRY,
    REPLY_PREFIX,
    Category,
    Lane,
    LookupFailure,
    LookupResult,
    Status,
    format_time,
)
from cardtoken.keys import DEAD_LETTERS, stream_name
from cardtoken.presence import WORKERS
from cardtoken.scripts import source
from tasks.lookups.lookup import Settled
from tasks.lookups.outcomes import Failure, Found, NotFound
from tasks.stores import fences
from tasks.stores.batched_script import BatchedScript

logger = logging.getLogger(__name__)

#: Results in one call of the script: it holds up Redis for a few milliseconds at most.
_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long, in seconds, and how many entries a stream keeps."""

    seconds: int
    length: int


class ResultStore:
    """Result queues and dead letters, written together by one script."""

    def __init__(self, redis: Redis, results: Bounds, dead_letters: Bounds) -> None:
        self._redis = redis
        self._results = results
        self._dead_letters = dead_letters
        self._publish_script = BatchedScript(redis, source(__package__, "fence", "publish"))
        self._published_script = redis.register_script(source(__package__, "fence", "published"))

    def published(self, task_id: str, indexes: Collection[int]) -> set[int]:
        """Return those of a task's indexes whose results are out already. Raises ``redis.RedisError``."""
        args = [value for index in indexes for value in (index, *fences.fence(task_id, index))]
        return set(self._published_script(keys=[fences.published(task_id)], args=args))

    def publish(self, task_id: str, provider: str, lane: Lane, settled: Sequence[Settled]) -> int:
        """Publish results, with their dead letters; return how many of them had been published before.

        Raises ``redis.RedisError`` when Redis could not be asked; calling again with the same results is safe.
        """
        suppressed = 0
        for start in range(0, len(settled), _CHUNK):
            suppressed += self._publish(task_id, provider, lane, settled[start : start + _CHUNK])
        return suppressed

    def _publish(self, task_id: str, provider: str, lane: Lane, settled: Sequence[Settled], stray: bool = False) -> int:
        streams = ["" if stray else stream_name(each.lookup.reply_to) for each in settled]
        args: list[Any] = [
            fences.FENCE_SECONDS,
            self._results.length,
            self._dead_letters.length,
            task_id,
            provider,
            lane,
        ]
        for each in settled:
            args += _fields(each, task_id, provider, stray)
        redis_keys = [fences.published(task_id), keys.RESULT_QUEUES, DEAD_LETTERS]
        redis_keys += [keys.FENCES, WORKERS, keys.FENCE_READERS, keys.SWEEP_LOCK, *streams]
        suppressed, *strays = self._publish_script.call(redis_keys, args)
        if strays:
            # Another program keeps something else under the name of a result queue. The result must not be lost for it.
            logger.error("a result queue's key holds no stream: %d results go to %s alone", len(strays), DEAD_LETTERS)
            lost = [each for each in settled if each.lookup.index in set(strays)]
            suppressed += self._publish(task_id, provider, lane, lost, stray=True)
        return int(suppressed)


def result_of(settled: Settled, task_id: str, provider: str) -> LookupResult:
    """Return the record that is published."""
    lookup, outcome = settled.lookup, settled.outcome
    status = {Found: Status.FOUND, NotFound: Status.NOT_FOUND, Failure: Status.FAILED}[type(outcome)]
    return LookupResult(
        lookup_id=lookup.lookup_id,
        task_id=task_id,
        provider=provider,
        account=lookup.account,
        status=status,
        token=outcome.token if isinstance(outcome, Found) else None,
        error=_error(outcome) if isinstance(outcome, Failure) else None,
        attempts=lookup.attempts,
        requested_at=lookup.requested_at,
        completed_at=settled.completed_at,
        replay_of=lookup.replay_of,
        metadata=dict(lookup.metadata),
    )


def _error(failure: Failure) -> LookupFailure:
    return LookupFailure(
        category=failure.category,
        code=failure.code,
        message=failure.message,
        http_status=failure.http_status,
        retryable=failure.category.retryable,
    )


def _fields(settled: Settled, task_id: str, provider: str, stray: bool) -> list[Any]:
    lookup, outcome = settled.lookup, settled.outcome
    result = result_of(settled, task_id, provider)
    expiry = REPLY_EXPIRY if lookup.reply_to.startswith(REPLY_PREFIX) else 0
    fence = fences.fence(task_id, lookup.index)
    fields: list[Any] = [lookup.index, *fence, expiry, lookup.lookup_id, result.status, result.to_json()]
    failure = outcome if isinstance(outcome, Failure) else None
    if not stray and not (failure and failure.category.actionable):
        return [*fields, 0, "", "", "", "", ""]
    category = failure.category if failure else Category.INTERNAL
    code = (failure and failure.code) or ""
    when = format_time(settled.completed_at)
    return [*fields, 1, lookup.account, category, code, when, json.dumps(lookup.sent, separators=(",", ":"))]
