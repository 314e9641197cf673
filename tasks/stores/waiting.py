"""Counts the lookups that wait, for the whole fleet."""

import threading
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from redis import Redis

from cardtoken import keys
from cardtoken.other_lists import other_lists
from cardtoken.waiting import PAUSE as BETWEEN_COUNTS
from cardtoken.waiting import lists_of, recount, share, shared

#: Seconds between two questions whether another worker counts.
PAUSE: Final = 2.5
#: Seconds for which a worker that counts keeps others from it. A worker that dies meanwhile costs as long.
_LOCKED: Final = 60


class WaitingCounter:
    """``queues``: those of this service. A count ends early where ``stopping`` is set."""

    def __init__(self, redis: Redis, queues: Collection[str], stopping: threading.Event) -> None:
        self._redis = redis
        self._queues = sorted(queues)
        self._stopping = stopping

    def count_for_all(self) -> None:
        """Count what is due, unless another worker of the fleet does or has just done. Raises ``redis.RedisError``."""
        if not self._redis.set(keys.WAITING_LOCK, 1, nx=True, ex=_LOCKED):
            return
        others = other_lists(self._redis)
        queues = {queue: lists_of(queue, others) for queue in self._queues}
        pause = 0.001
        with suppress(_StoppingError):
            share(self._redis, recount(self._redis, queues, shared(self._redis) or {}, self._rest))
            pause = BETWEEN_COUNTS
        self._redis.set(keys.WAITING_LOCK, 1, px=int(pause * 1000))

    def _rest(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _StoppingError


class _StoppingError(Exception):
    """The worker ends."""
