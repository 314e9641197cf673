"""A number of workers that is kept running."""

import random
import re
import time
from collections.abc import Callable
from typing import Self

from sandbox.service import WorkerProcess

#: Seconds in which a worker has to begin to consume.
_PATIENCE = 120.0
_READY = re.compile(r" ready\.")
_TAKEN_OVER = re.compile(r"(\d+) messages of a worker that died or froze")


class Fleet:
    """So many workers; one that ends is replaced at once."""

    def __init__(self, start: Callable[[], WorkerProcess], size: int) -> None:
        self._start = start
        self._size = size
        self.workers: list[WorkerProcess] = []
        self._ready: set[int] = set()
        self._taken_over = 0
        self._released: list[WorkerProcess] = []
        self.unexpected: list[str] = []

    def __enter__(self) -> Self:
        try:
            self.workers += [self._start() for _ in range(self._size)]
            self._wait_for(self._size)
        except BaseException:
            self._stop()
            raise
        return self

    def _wait_for(self, count: int) -> list[WorkerProcess]:
        """So many that consume, as soon as there are."""
        end = time.monotonic() + _PATIENCE
        while len(ready := self.ready()) < count:
            if time.monotonic() > end or len(self.unexpected) > 5 * self._size:
                last = self.unexpected[-1] if self.unexpected else self.workers[-1].log
                raise TimeoutError(f"{len(ready)} of {count} workers consume; one says:\n{last}")
            time.sleep(0.02)
        return ready

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ready(self) -> list[WorkerProcess]:
        """Those that consume. One that ended by itself is noted and replaced."""
        for worker in list(self.workers):
            if (status := worker.child.poll()) is not None:
                self.unexpected.append(f"status {status}: {worker.log[-300:]}")
                self.replace(worker)
            elif worker.child.pid not in self._ready and any(map(_READY.search, worker.lines)):
                self._ready.add(worker.child.pid)
        return [worker for worker in self.workers if worker.child.pid in self._ready]

    def grow(self, size: int) -> None:
        """Have so many, all of which consume."""
        self._size = size
        self.workers += [self._start() for _ in range(size - len(self.workers))]
        self._wait_for(size)

    def release(self, count: int) -> list[WorkerProcess]:
        """Return the oldest ones, which are not replaced when they end: that is the caller's to see to."""
        self._size -= count
        released, self.workers = self.workers[:count], self.workers[count:]
        self._released += released
        return released

    def any(self, chance: random.Random) -> WorkerProcess:
        """One that consumes, as soon as there is one."""
        return chance.choice(self._wait_for(1))

    def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL, and another in its place."""
        worker.child.kill()
        worker.child.wait(10)
        self.replace(worker)

    def replace(self, worker: WorkerProcess) -> WorkerProcess:
        """Another in the place of one that has ended."""
        self._taken_over += _logged_as_taken_over(worker)
        self.workers.remove(worker)
        self.workers.append(self._start())
        return self.workers[-1]

    @property
    def taken_over(self) -> int:
        """Messages of dead workers that went back to their queues, as the workers log it."""
        return self._taken_over + sum(map(_logged_as_taken_over, [*self.workers, *self._released]))

    def _stop(self) -> None:
        every = [*self.workers, *self._released]
        for worker in every:
            worker.child.kill()
        for worker in every:
            worker.child.wait(10)


def _logged_as_taken_over(worker: WorkerProcess) -> int:
    return sum(int(found[1]) for line in list(worker.lines) if (found := _TAKEN_OVER.search(line)))
