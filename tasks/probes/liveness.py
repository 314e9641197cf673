"""Whether a worker's threads go on. What is outside, Redis or a provider, plays no part.

Time is counted in ticks of the thread that watches, each with a bound: while the whole process stands, because its host
is paused, it was stopped by a signal or has no CPU, no thread could have given a sign, nor does the watching one run.

While Redis does not answer, threads wait for each other's locks as well as for Redis, for as long as it takes. Then
only the event loop, which never does so for long, and new threads are judged.
"""

import _thread
import os
from collections.abc import Callable, Hashable, Sequence
from itertools import count
from typing import Final

from tasks.telemetry.signs_of_life import Sign, SignsOfLife

#: Seconds that a thread may be silent beyond what it said. The longest that one waits for Redis without a sign is 10.
PATIENCE: Final = 25.0
#: Seconds beyond HTTP_TOTAL_TIMEOUT for which messages may make no progress: a call may be the only one.
WORK_PATIENCE: Final = 15.0
#: Seconds that one tick counts at most.
_TICK: Final = 2.0
#: Seconds between two threads that are started to see whether they run.
_TRY_AGAIN: Final = 4.0


class _Still:
    """How long something has stayed as it is."""

    def __init__(self) -> None:
        self._reading: Hashable = None
        self.seconds = 0.0

    def look(self, reading: Hashable, elapsed: float) -> None:
        """Note what it is now; None means that there is nothing to go on with."""
        self.seconds = 0.0 if reading is None or reading != self._reading else self.seconds + elapsed
        self._reading = reading


class _NewThreads:
    """Starts a thread that does nothing, now and then."""

    def __init__(self) -> None:
        self._counter = count(1)
        self._ran = 0
        self._started = 0
        self._refused = False
        self._still = _Still()
        self._next = 0.0

    def look(self, elapsed: float) -> None:
        self._still.look(self._ran, elapsed)
        self._next -= elapsed
        if self._next <= 0 and self._started == self._ran:
            self._next = _TRY_AGAIN
            self._start()

    def _start(self) -> None:
        number = next(self._counter)
        before, self._started = self._started, number
        try:
            # Not `threading`, whose start() waits until the thread runs.
            _thread.start_new_thread(self._run, (number,))
        except (RuntimeError, MemoryError):
            self._refused, self._started = True, before
        else:
            self._refused = False

    def _run(self, number: int) -> None:
        self._ran = number

    @property
    def trouble(self) -> str | None:
        if self._still.seconds <= _TRY_AGAIN + PATIENCE:
            return None
        if self._refused:
            return (
                f"no thread can be started for {self._still.seconds:.0f} s: raise the limit of processes and threads "
                "(pids of the container, ulimit -u), or of memory"
            )
        return f"a new thread has not run for {self._still.seconds:.0f} s: give the worker more CPU"


class Liveness:
    """Watches the threads that give ``signs``, those that run messages and calls, and whether one can be started.

    ``at`` is the time by the monotonic clock.
    """

    def __init__(self, signs: SignsOfLife, at: float) -> None:
        self._signs = signs
        self._at = at
        self._threads: dict[int, tuple[Sign, _Still]] = {}
        self._new_threads = _NewThreads()
        self._work: Callable[[], Hashable] = lambda: None
        self._work_patience = 0.0
        self._work_still = _Still()

    def watch_work(self, progress: Callable[[], Hashable], longest_call: float) -> None:
        """Watch messages too: ``progress`` returns what changes as they go on, or None if none is worked on."""
        self._work, self._work_patience = progress, longest_call + WORK_PATIENCE

    def tick(self, at: float, *, redis_answers: bool) -> None:
        """Look at all threads; call it every second or so."""
        elapsed = min(max(0.0, at - self._at), _TICK)
        self._at = at
        threads = self._signs.threads.copy()
        self._threads = {
            ident: known if (known := self._threads.get(ident)) and known[0] is sign else (sign, _Still())
            for ident, sign in threads.items()
        }
        for sign, still in self._threads.values():
            still.look(sign.given if redis_answers or sign.always else None, elapsed)
        self._new_threads.look(elapsed)
        work = self._work() if redis_answers else None
        self._work_still.look(None if work is None else (work, self._signs.others), elapsed)

    @property
    def troubles(self) -> Sequence[str]:
        """What does not go on, and what to do."""
        stopped = [f"{name} has ended: {_restart()}" for name in sorted(self._signs.lost)]
        stopped += [
            f"{sign.name} has stood still for {still.seconds:.0f} s: {_restart()}"
            for sign, still in self._threads.values()
            if still.seconds > sign.due + PATIENCE
        ]
        if self._work_still.seconds > self._work_patience:
            still_for = self._work_still.seconds
            stopped.append(f"messages are worked on and have made no progress for {still_for:.0f} s: {_restart()}")
        if (trouble := self._new_threads.trouble) is not None:
            stopped.append(trouble)
        return stopped


def _restart() -> str:
    return f"restart this worker; `kill -USR1 {os.getpid()}` before that lets its log say where each thread is"
