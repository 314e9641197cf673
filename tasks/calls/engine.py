"""Runs a list of lookups against one provider: which are begun when, and their steps in batches."""

import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from time import monotonic

from cardtoken.contract import Lane
from tasks.calls.admission import Admission, BatchAdmission, CallNow, PutBack, WaitFor
from tasks.calls.attempt import Attempts
from tasks.calls.threads import CallThreads
from tasks.lookups.lookup import Lookup, NotStarted, Step

#: Seconds that a step waits at most for others to be published with it.
LINGER = 0.05


class Engine:
    """Runs lists of lookups on ``threads``. Knows neither Celery nor Redis.

    Once ``stopping`` is set, running calls are finished and no other is begun.
    """

    def __init__(self, attempts: Attempts, threads: CallThreads, stopping: threading.Event) -> None:
        self._attempts = attempts
        self._threads = threads
        self._stopping = stopping

    @property
    def admission(self) -> Admission:
        """Whether this provider may be called."""
        return self._attempts.admission

    @property
    def progress(self) -> float | None:
        """Return what changes when a call begins or ends; None while there is none to make."""
        return self._threads.progress

    @property
    def stalled_seconds(self) -> float:
        """Seconds for which there have been calls to make, and none has begun or ended."""
        return self._threads.stalled_seconds

    def run(self, lookups: Iterable[Lookup], lane: Lane = Lane.BULK) -> Iterator[list[Step]]:
        """Take every lookup one step: settled, postponed, blocked or not started. Yield the steps in batches.

        Of one list no more lookups are handed to the threads at once than there are threads, so that lists that run
        side by side take turns, and a short one does not wait for the whole of a long one.
        """
        waiting = deque(lookups)
        batch_admission = self.admission.for_batch(lane)
        if len(waiting) == 1 and (step := self._run_inline(waiting, batch_admission, lane)) is not None:
            yield [step]
            return
        done: SimpleQueue[Step] = SimpleQueue()
        running = 0
        while waiting or running:
            batch: list[Step] = []
            until = math.inf
            # A finished call makes room for another at once, also while its batch lingers.
            while waiting or running:
                begun, ended, pause = self._begin(waiting, running, batch_admission, lane, done)
                running += begun
                batch += ended
                if ended:
                    until = min(until, monotonic() + LINGER)
                if not running and not waiting:
                    break
                step = _next_result(done, min(until, monotonic() + pause))
                if step is not None:
                    batch.append(step)
                    batch_admission.finished(step.lookup)
                    running -= 1
                    until = min(until, monotonic() + LINGER)
                elif monotonic() >= until:
                    break
            if batch:
                yield batch

    def close(self) -> None:
        """End the threads after their running calls."""
        self._threads.close()

    def _run_inline(self, waiting: deque[Lookup], batch_admission: BatchAdmission, lane: Lane) -> Step | None:
        """Attempt the only lookup of a list in this thread. Return None if it may not be called now."""
        if self._stopping.is_set():
            return None
        with self._threads.inline(lane) as free:
            if not free:
                return None
            decision = self._decide(batch_admission, waiting, 0)
            if not isinstance(decision, CallNow):
                return None
            return self._attempts.attempt_safely(waiting.popleft(), lane, trial=decision.trial)

    def _begin(
        self,
        waiting: deque[Lookup],
        running: int,
        batch_admission: BatchAdmission,
        lane: Lane,
        done: SimpleQueue[Step],
    ) -> tuple[int, list[Step], float]:
        """Hand to the threads the lookups that may be called now.

        Return their number, the steps of those that are not called, and the seconds until more may be called.
        """
        ended: list[Step] = []
        begun = 0
        while waiting and running + begun < self._threads.size:
            if self._stopping.is_set():
                ended += [NotStarted(lookup) for lookup in waiting]
                waiting.clear()
                break
            decision = self._decide(batch_admission, waiting, running + begun)
            if isinstance(decision, WaitFor):
                return begun, ended, decision.seconds
            lookup = waiting.popleft()
            if isinstance(decision, CallNow):
                self._threads.submit(lane, self._attempt_into, done, lookup, lane, decision.trial)
                begun += 1
            else:
                ended.append(self._attempts.put_back(lookup, lane, decision))
        return begun, ended, math.inf

    def _decide(
        self, batch_admission: BatchAdmission, waiting: deque[Lookup], running: int
    ) -> CallNow | PutBack | WaitFor:
        """Decide about the first lookup. For a trial, another one of its account may become the first."""
        lookup, account = waiting[0], waiting[0].account
        if not self._attempts.needs_call(lookup):
            return CallNow()  # it is settled without one
        decision = batch_admission.decide(lookup, running, lambda: sum(each.account == account for each in waiting))
        if isinstance(decision, CallNow) and decision.trial:
            # A failed trial costs an attempt: the lookup that has used the fewest makes it.
            able = (each for each in waiting if each.account == account and self._attempts.needs_call(each))
            first = min(able, key=lambda each: each.attempts, default=lookup)
            waiting.remove(first)
            waiting.appendleft(first)
            batch_admission.begin_trial(first)
        return decision

    def _attempt_into(self, done: SimpleQueue[Step], lookup: Lookup, lane: Lane, trial: bool) -> None:
        done.put(self._attempts.attempt_safely(lookup, lane, trial=trial))


def _next_result(done: SimpleQueue[Step], until: float) -> Step | None:
    """Return the next step, or None if there is none until the monotonic clock shows ``until``."""
    try:
        return done.get(timeout=None if until == math.inf else max(0.0, until - monotonic()))
    except Empty:
        return None
