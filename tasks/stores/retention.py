"""Keeps every stream to its age and length, quiet ones too, by a sweep that one worker of the fleet does at a time."""

import logging
import threading
from importlib.resources import files

from redis import Redis, RedisError

from cardtoken.contract import DEAD_LETTERS, QUARANTINE
from tasks.stores import keys
from tasks.stores.results import Bounds

logger = logging.getLogger(__name__)

#: Seconds between two sweeps; less where something is kept for less than ten times that.
_LONGEST_PAUSE = 60.0


class Retention:
    """The sweep, in a thread of its own."""

    def __init__(self, redis: Redis, results: Bounds, dead_letters: Bounds) -> None:
        self._redis = redis
        self._results = results
        self._dead_letters = dead_letters
        self._script = redis.register_script(files(__package__).joinpath("sweep.lua").read_text())
        self._pause = min(_LONGEST_PAUSE, max(0.5, min(results.seconds, dead_letters.seconds) / 10))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin sweeping."""
        self._thread.start()

    def stop(self) -> None:
        """End sweeping; a sweep under way is finished first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def sweep(self) -> int:
        """Trim every result queue, the dead letters and the quarantine; answers how many entries were removed."""
        removed = 0
        for stream in self._redis.sscan_iter(keys.RESULT_QUEUES):
            removed += self._trim(stream.decode(), self._results, keys.RESULT_QUEUES)
        for stream_name in (DEAD_LETTERS, QUARANTINE):
            removed += self._trim(stream_name, self._dead_letters, "")
        return removed

    def _trim(self, stream: str, bounds: Bounds, registry: str) -> int:
        return int(self._script(keys=[stream, registry], args=[bounds.seconds, bounds.length]))

    def _run(self) -> None:
        away = False
        while not self._stopping.wait(self._pause):
            try:
                # Who gets the lock sweeps for the fleet; it runs out by itself, so no worker can die holding it.
                if self._redis.set(keys.SWEEP_LOCK, 1, nx=True, px=int(self._pause * 900)):
                    self.sweep()
                away = False
            except RedisError as error:
                if not away:
                    logger.warning("retention: Redis cannot be asked (%s); trying on", type(error).__name__)
                away = True
