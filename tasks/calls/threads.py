"""Threads for calls to one provider. Interactive calls go first, and some threads are reserved for them."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from time import monotonic
from typing import Any

from cardtoken.contract import Lane

logger = logging.getLogger(__name__)

_Call = tuple[Callable[..., None], tuple[Any, ...]]


class CallThreads:
    """At most ``size`` threads, started when they are needed.

    ``reserved`` returns how many threads are not used for bulk calls at that moment. A call must not raise.
    """

    def __init__(self, size: int, name: str, reserved: Callable[[], int] = lambda: 0) -> None:
        self.size = size
        self._name = name
        self._reserved = reserved
        self._changed = threading.Condition(threading.Lock())
        self._waiting: dict[Lane, deque[_Call]] = {lane: deque() for lane in Lane}
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._running = 0
        self._bulk = 0
        self._closed = False
        self._short = False
        self._progressed = monotonic()

    def submit(self, lane: Lane, call: Callable[..., None], *args: Any) -> None:
        """Make a call in a thread as soon as one is free, in a copy of this context, so that a trace continues.

        If no thread can be started, the existing ones make the call; if there is none, it is made in this thread.
        """
        waiting = self._waiting[lane]
        with self._changed:
            if not self._waits():
                self._progressed = monotonic()  # there was nothing to do until now
            waiting.append((copy_context().run, (call, *args)))
            self._changed.notify()
            # A thread that was woken counts as idle until it runs, so the waiting calls are counted too.
            if sum(map(len, self._waiting.values())) > self._idle and len(self._threads) < self.size:
                self._start_one()
            if self._threads or self._closed:
                return
            run, given = waiting.pop()
            self._begin(lane)
        try:
            run(*given)
        finally:
            self._end_inline(lane)

    @property
    def stalled_seconds(self) -> float:
        """Return the seconds for which calls have been waiting or running, and none has begun or ended."""
        with self._changed:
            return monotonic() - self._progressed if self._waits() else 0.0

    @property
    def progress(self) -> float | None:
        """Return what changes when a call begins or ends; None while there is none. Takes no lock."""
        return self._progressed if self._waits() else None

    @contextmanager
    def inline(self, lane: Lane) -> Iterator[bool]:
        """Make a call in this thread, which counts as one of the others meanwhile. Yield False if none is free.

        Handing a call to another thread and its outcome back is a quarter of the cost of a single lookup.
        """
        with self._changed:
            free = not any(self._waiting.values()) and self._room(lane)
            if free:
                self._begin(lane)
        try:
            yield free
        finally:
            if free:
                self._end_inline(lane)

    def _end_inline(self, lane: Lane) -> None:
        with self._changed:
            self._end(lane)
            if any(self._waiting.values()):
                self._changed.notify()

    def close(self) -> None:
        """End the threads after their running calls. Waiting calls are not made."""
        with self._changed:
            self._closed = True
            for waiting in self._waiting.values():
                waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while (lane := self._next()) is None:
                    if self._closed:
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                call, args = self._waiting[lane].popleft()
                self._begin(lane)
            try:
                call(*args)
            finally:
                with self._changed:
                    self._end(lane)

    def _start_one(self) -> None:
        try:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            thread.start()
        except (RuntimeError, MemoryError):  # the process limit, or no memory: the error's text says no more
            if not self._short:
                logger.warning("%s: no thread can be started; going on with %d", self._name, len(self._threads))
            self._short = True
        else:
            self._short = False
            self._threads.append(thread)

    def _waits(self) -> bool:
        return self._running > 0 or any(self._waiting.values())

    def _begin(self, lane: Lane) -> None:
        self._progressed = monotonic()
        self._running += 1
        self._bulk += lane is Lane.BULK

    def _end(self, lane: Lane) -> None:
        self._progressed = monotonic()
        self._running -= 1
        self._bulk -= lane is Lane.BULK

    def _room(self, lane: Lane) -> bool:
        if self._running >= self.size:
            return False
        return lane is Lane.INTERACTIVE or self._bulk < max(1, self.size - self._reserved())

    def _next(self) -> Lane | None:
        for lane in (Lane.INTERACTIVE, Lane.BULK):
            if self._waiting[lane]:
                return lane if self._room(lane) else None
        return None
