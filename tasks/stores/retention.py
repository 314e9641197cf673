"""Keeps every stream to its age and length, quiet ones too, by a sweep that one worker of the fleet does at a time."""

from typing import Any

from redis import Redis

from cardtoken import keys
from cardtoken.keys import DEAD_LETTERS, QUARANTINE
from cardtoken.scripts import source
from tasks.stores.presence import forget_dead_workers
from tasks.stores.results import Bounds

#: Seconds between two sweeps; less where something is kept for less than ten times that.
_LONGEST_PAUSE = 60.0


class Retention:
    """The sweep that trims streams."""

    def __init__(self, redis: Redis, results: Bounds, dead_letters: Bounds) -> None:
        self._redis = redis
        self._results = results
        self._dead_letters = dead_letters
        self._script = redis.register_script(source(__package__, "sweep"))
        #: Seconds after which a sweep is due again.
        self.pause = min(_LONGEST_PAUSE, max(0.5, min(results.seconds, dead_letters.seconds) / 10))

    def sweep_for_all(self) -> None:
        """Sweep, unless another worker of the fleet does."""
        now: Any = self._redis.time()
        # The lock runs out by itself, so no worker can die holding it.
        expiry = int(self.pause * 900)
        if not self._redis.set(keys.SWEEP_LOCK, now[0], nx=True, px=expiry):
            taken: Any = self._redis.get(keys.SWEEP_LOCK)
            if taken is None or int(taken) <= now[0]:
                return
            # Taken later than now: Redis' clock went back, and the lock would hold for so much longer.
            self._redis.set(keys.SWEEP_LOCK, now[0], px=expiry)
        self.sweep()

    def sweep(self) -> int:
        """Trim every result queue, the dead letters and the quarantine, and forget dead workers.

        Return how many entries were removed.
        """
        removed = 0
        for stream in self._redis.sscan_iter(keys.RESULT_QUEUES):
            removed += self._trim(stream.decode(), self._results, keys.RESULT_QUEUES)
        for stream_name in (DEAD_LETTERS, QUARANTINE):
            removed += self._trim(stream_name, self._dead_letters, "")
        forget_dead_workers(self._redis)
        return removed

    def _trim(self, stream: str, bounds: Bounds, registry: str) -> int:
        return int(self._script(keys=[stream, registry], args=[bounds.seconds, bounds.length]))
