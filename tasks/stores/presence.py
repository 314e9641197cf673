"""What each worker reports of itself to Redis every few seconds, for `cardtoken status` and `health`."""

import json
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from redis import Redis

from cardtoken import __version__, keys
from cardtoken.contract import format_time
from cardtoken.presence import LAST_REPORTS, REMEMBERED_SECONDS, WORKERS, worker_key
from tasks.stores import fences
from tasks.stores.clock import RedisClock

#: Seconds between two reports, and after which the hash of a worker that reports no more expires.
PAUSE: Final = 5.0
_EXPIRY: Final = 16
#: Characters of what is wrong with the configuration.
_LONGEST_TROUBLE: Final = 500


class Presence:
    """Reports of one worker. ``state`` returns what changes: queues, messages in hand, seconds that the loop has stood.

    ``stalled`` is asked for the seconds for which calls should have ended and none has, ``configuration`` for what is
    wrong with files that changed since the start, and when keys and accounts were taken up last.
    """

    def __init__(
        self,
        redis: Redis,
        worker: str,
        name: str,
        threads: int,
        state: Callable[[], tuple[Sequence[str], int, float]],
        *,
        clock: RedisClock,
        stalled: Callable[[], float] = lambda: 0.0,
        configuration: Callable[[], tuple[str, datetime | None]] = lambda: ("", None),
    ) -> None:
        self._configuration = configuration
        self._stalled = stalled
        self._clock = clock
        self._redis = redis
        self._worker = worker
        self._state = state
        self._fixed = {
            "name": name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "threads": threads,
            "version": __version__,
            "started_at": format_time(clock.now()),
        }

    def report(self) -> None:
        """Report that this worker is there, and how it is. Raises ``redis.RedisError``."""
        queues, messages, still = self._state()
        trouble, configured_at = self._configuration()
        fields: dict[Any, Any] = {
            **self._fixed,
            "queues": json.dumps(list(queues)),
            "messages": messages,
            "still": f"{still:.1f}",
            "stalled": f"{self._stalled():.1f}",
            "configuration": trouble[:_LONGEST_TROUBLE],
            "configured_at": format_time(configured_at) if configured_at else "",
            "clock_offset": "" if (offset := self._clock.offset) is None else f"{offset:.3f}",
        }
        # By Redis' clock, so that a reader need not trust this host's.
        seconds, micros = self._redis.time()
        report = {
            "at": seconds + micros / 1_000_000,
            "name": self._fixed["name"],
            "host": self._fixed["host"],
            "queues": list(queues),
        }
        key = worker_key(self._worker)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hset(key, mapping=fields)
            pipeline.expire(key, _EXPIRY)
            pipeline.sadd(keys.FENCE_READERS, self._worker)
            pipeline.sadd(WORKERS, self._worker)
            pipeline.hset(LAST_REPORTS, self._worker, json.dumps(report))
            pipeline.execute()

    def leave(self) -> None:
        """Report that this worker is gone. Raises ``redis.RedisError``."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(worker_key(self._worker))
            pipeline.srem(WORKERS, self._worker)
            pipeline.srem(keys.FENCE_READERS, self._worker)
            pipeline.hdel(LAST_REPORTS, self._worker)
            pipeline.execute()


def forget_dead_workers(redis: Redis) -> None:
    """Remove the ids of workers that report no more, and those that have been silent for too long to be remembered.

    A part of the sweep, and not of looking: who looks may not be allowed to write.
    """
    ids: Any = redis.smembers(WORKERS)
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hgetall(LAST_REPORTS)
        for each in ids:
            pipeline.exists(worker_key(each.decode()))
        (seconds, _), reports, *present = pipeline.execute()
    if gone := [worker for worker, there in zip(ids, present, strict=True) if not there]:
        if not set(gone) <= redis.smembers(keys.FENCE_READERS):
            # One of the release before, which may only be frozen: for a day it may look for its own fences.
            redis.set(keys.FENCES, seconds + fences.FENCE_SECONDS)
        redis.srem(WORKERS, *gone)
        redis.srem(keys.FENCE_READERS, *gone)
    read = {worker: json.loads(text) for worker, text in reports.items()}
    # Made before Redis' clock went back: its worker reports anew, or is silent from now on.
    later = {worker: report for worker, report in read.items() if report["at"] > seconds + 1}
    if later:
        redis.hset(LAST_REPORTS, mapping={worker: json.dumps({**later[worker], "at": seconds}) for worker in later})
    if old := [worker for worker, report in read.items() if report["at"] < seconds - REMEMBERED_SECONDS]:
        redis.hdel(LAST_REPORTS, *old)
