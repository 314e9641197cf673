"""Runs a list of lookups against a provider, concurrently. Knows no Celery and no Redis."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from cardtoken.contract import Category, Lane, LookupRequest
from cardtoken.error_description import describe_error
from cardtoken.secret import Secret
from tasks import crash_points
from tasks.calls.access_tokens import AccessTokenCache
from tasks.calls.admission import Admission, BatchAdmission, Call, CallNow, Circuit, PutBack, WaitFor
from tasks.calls.question import Question
from tasks.calls.retry import RetryAt, RetryPolicy
from tasks.calls.threads import CallThreads
from tasks.http.client import HttpClient
from tasks.lookups.lookup import Blocked, Lookup, NotStarted, Postponed, Reason, Settled
from tasks.lookups.outcomes import Failure, NotFound, Outcome
from tasks.providers.provider import Account, Provider
from tasks.telemetry import reports
from tasks.telemetry.observer import Observer

logger = logging.getLogger(__name__)

Step = Settled | Postponed | Blocked | NotStarted

#: A result waits at most so many seconds for others to be published with it.
LINGER = 0.05
#: Seconds after which a lookup may be asked for again for which this worker had no room.
_NO_ROOM_PAUSE = 1.0
#: Seconds after which it is logged again that there is none.
_TELL_AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class _Credentials:
    """One account, and its access tokens where the provider wants them."""

    account: Account
    access_tokens: AccessTokenCache | None


class Engine:
    """Asks one provider, with calls on ``threads``, where its ``guard`` lets them through.

    ``not_found_grace`` is how many seconds after it was requested a lookup that is not found may be too early.
    """

    def __init__(
        self,
        provider: Provider[Any],
        accounts: Mapping[str, Account],
        *,
        http: HttpClient,
        policies: Mapping[Lane, RetryPolicy],
        threads: CallThreads,
        guard: Admission,
        observer: Observer,
        not_found_grace: float = 0.0,
        now: Callable[[], datetime],
        stopping: threading.Event | None = None,
    ) -> None:
        self._provider = provider
        self._http = http
        self._policies = policies
        self._threads = threads
        self._guard = guard
        self._observer = observer
        self._grace = timedelta(seconds=not_found_grace)
        self._stopping = stopping or threading.Event()
        self._now = now
        #: When it was logged last that this machine lacks something.
        self._short_at = -math.inf
        scheme = provider.access_tokens
        # On a connection of its own: what another account's request left on one must not be taken for a token.
        alone = partial(http.send, alone=True)
        self._credentials = {
            name: _Credentials(account, AccessTokenCache(scheme, account, alone) if scheme else None)
            for name, account in accounts.items()
        }

    @property
    def stalled(self) -> float:
        """Seconds for which this provider has had calls to make, and none has begun or ended."""
        return self._threads.stalled

    @property
    def guard(self) -> Admission:
        """What stands before this provider."""
        return self._guard

    def run(self, lookups: Iterable[Lookup], lane: Lane = Lane.BULK) -> Iterator[list[Step]]:
        """Take every lookup one step: settled, postponed to a later try, or held. Steps come in batches.

        No more lookups of a list are handed to the threads at once than there are threads, so lists that run side by
        side get their turns alternately, and a short one does not wait for the whole of a long one. When ``stopping``
        is set, calls under way are finished and no other is begun.
        """
        waiting = deque(lookups)
        turns = self._guard.turns(lane)
        if len(waiting) == 1 and (step := self._run_inline(waiting, turns, lane)) is not None:
            yield [step]
            return
        done: SimpleQueue[Step] = SimpleQueue()
        running = 0
        while waiting or running:
            batch: list[Step] = []
            until = math.inf
            # What has ended makes room at once, also while its batch waits for company.
            while waiting or running:
                begun, ended, pause = self._begin(waiting, running, turns, lane, done)
                running += begun
                batch += ended
                if ended:
                    until = min(until, monotonic() + LINGER)
                if not running and not waiting:
                    break
                step = _next_result(done, min(until, monotonic() + pause))
                if step is not None:
                    batch.append(step)
                    turns.ended(step.lookup)
                    running -= 1
                    until = min(until, monotonic() + LINGER)
                elif monotonic() >= until:
                    break
            if batch:
                yield batch

    def _run_inline(self, waiting: deque[Lookup], turns: BatchAdmission, lane: Lane) -> Step | None:
        """The one lookup of a list, asked in this thread; None where it is not its turn, or no thread is free."""
        if self._stopping.is_set():
            return None
        with self._threads.here(lane) as free:
            if not free:
                return None
            turn = self._turn(turns, waiting, 0)
            return (
                self._attempt_safely(waiting.popleft(), lane, trial=turn.trial) if isinstance(turn, CallNow) else None
            )

    def _begin(
        self, waiting: deque[Lookup], running: int, turns: BatchAdmission, lane: Lane, done: SimpleQueue[Step]
    ) -> tuple[int, list[Step], float]:
        """Hand to the threads what may be asked now.

        Answers how many those are, what is over without, and the seconds after which more may be asked.
        """
        ended: list[Step] = []
        begun = 0
        while waiting and running + begun < self._threads.size:
            if self._stopping.is_set():
                ended += [NotStarted(lookup) for lookup in waiting]
                waiting.clear()
                break
            turn = self._turn(turns, waiting, running + begun)
            if isinstance(turn, WaitFor):
                return begun, ended, turn.seconds
            lookup = waiting.popleft()
            if isinstance(turn, CallNow):
                self._threads.submit(lane, self._step_into, done, lookup, lane, turn.trial)
                begun += 1
            else:
                ended.append(self._not_asked(lookup, lane, turn))
        return begun, ended, math.inf

    def _turn(self, turns: BatchAdmission, waiting: deque[Lookup], running: int) -> CallNow | PutBack | WaitFor:
        lookup, now = waiting[0], self._now()
        if not self._needs_a_call(lookup, now):
            return CallNow()  # which needs nobody's leave
        account = lookup.account
        turn = turns.next(lookup, running, lambda: sum(each.account == account for each in waiting))
        if isinstance(turn, CallNow) and turn.trial:
            # Whoever fails at it has lost an attempt: the one that has most of them left.
            able = (each for each in waiting if each.account == account and self._needs_a_call(each, now))
            first = min(able, key=lambda each: each.attempts)
            waiting.remove(first)
            waiting.appendleft(first)
            turns.trying(first)
        return turn

    def _needs_a_call(self, lookup: Lookup, now: datetime) -> bool:
        return lookup.request is not None and lookup.account in self._credentials and lookup.deadline > now

    def _not_asked(self, lookup: Lookup, lane: Lane, turn: PutBack) -> Step:
        if lane is Lane.INTERACTIVE and turn.reason is Reason.CIRCUIT:
            words = "the provider is down, and is not asked until it is well again"
            return self._settled(lookup, Failure(Category.UNAVAILABLE, words))
        if lane is Lane.INTERACTIVE and turn.asked and self._too_late(lookup, turn.seconds):
            words = f"the provider asked to be left alone, for {math.ceil(turn.seconds)} more seconds"
            return self._settled(lookup, Failure(turn.asked, words))
        return Blocked(lookup, turn.seconds, turn.reason)

    def _too_late(self, lookup: Lookup, seconds: float) -> bool:
        return self._now() + timedelta(seconds=seconds) >= lookup.deadline

    def close(self) -> None:
        """End the threads once their running calls are over."""
        self._threads.close()

    def _step_into(self, done: SimpleQueue[Step], lookup: Lookup, lane: Lane, trial: bool) -> None:
        done.put(self._attempt_safely(lookup, lane, trial=trial))

    def _attempt_safely(self, lookup: Lookup, lane: Lane, *, trial: bool) -> Step:
        """One step, whatever happens."""
        try:
            # It may have opened while this waited for a thread.
            turn = None if trial else self._guard.open_for(lookup.account)
            if turn is not None and self._needs_a_call(lookup, self._now()):
                return self._not_asked(lookup, lane, turn)
            return self._attempt(lookup, lane, trial=trial)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this lookup's failure and nobody else's
            reports.unexpected(error)
            # Not its text, which may quote what it was given.
            logger.error("lookup %s ended in %s", lookup.shown_id, describe_error(error))  # noqa: TRY400 - see above
            if trial:
                self._guard.gave_up(lookup.account)
            return Settled(lookup, Failure(Category.INTERNAL, "an unexpected error in this service"), self._now())

    def _attempt(self, lookup: Lookup, lane: Lane, *, trial: bool) -> Step:
        now = self._now()
        credentials = self._credentials.get(lookup.account)
        if lookup.request is None or credentials is None or lookup.deadline <= now:
            if trial:
                self._guard.gave_up(lookup.account)
            return self._settled(lookup, _why_not(lookup, credentials))
        # An answer after the deadline is worth nothing, so no call outlasts it.
        began = monotonic()
        until = began + (lookup.deadline - now).total_seconds()
        asked, outcome = self._call(lookup, lookup.request, credentials, until, self._policies[lane])
        if outcome is None or (isinstance(outcome, Failure) and outcome.local):
            if trial:
                self._guard.gave_up(lookup.account)
            return NotStarted(asked) if outcome is None else self._without_room(lookup, outcome)
        call = Call(outcome, began, monotonic(), repeated=lookup.attempts > 0, trial=trial)
        self._observer.attempted(lane, outcome, asked.attempts - lookup.attempts)
        circuit = self._tell_guard(lookup.account, call, until)
        return self._after(asked, lane, call, circuit)

    def _without_room(self, lookup: Lookup, failure: Failure) -> Step:
        """This worker could not make the call: nothing is charged, and another one may have what it lacks."""
        if monotonic() - self._short_at > _TELL_AGAIN:
            self._short_at = monotonic()
            logger.warning("calls to %s go back uncharged: %s", self._provider.name, failure.message)
        if self._too_late(lookup, _NO_ROOM_PAUSE):
            return self._settled(lookup, replace(failure, category=Category.INTERNAL))
        return Blocked(lookup, _NO_ROOM_PAUSE, Reason.WORKER)

    def _after(self, lookup: Lookup, lane: Lane, call: Call, circuit: Circuit) -> Step:
        """What follows a call."""
        outcome, took = call.outcome, call.ended - call.began
        why: Failure | NotFound
        if isinstance(outcome, Failure):
            why = failure = outcome
            lookup = lookup.unread() if failure.may_pass else lookup
        elif isinstance(outcome, NotFound) and self._now() < lookup.requested_at + self._grace:
            # What was made moments ago may not be known everywhere yet.
            why, failure = outcome, Failure(Category.UNAVAILABLE, "not found yet")
        else:
            return self._settled(lookup, outcome, took)
        policy = self._policies[lane]
        decision = policy.decide(failure, lookup.attempts, self._now(), lookup.deadline, lookup.unreadable)
        if not isinstance(decision, RetryAt):
            return self._settled(lookup, outcome, took)
        not_before = decision.not_before
        if circuit.left is not None:
            # After a trial it has had its turn: the next one is another's.
            wait = 2 * circuit.left + 1 if call.trial else circuit.left
            # Where a person waits, and the circuit is open, waiting longer helps only if the provider said how long.
            if lane is Lane.INTERACTIVE and (not circuit.asked or self._too_late(lookup, wait)):
                return self._settled(lookup, outcome, took)
            not_before = max(not_before, self._now() + timedelta(seconds=wait))
        return Postponed(lookup.waiting_until(not_before), why)

    def _tell_guard(self, account: str, call: Call, until: float) -> Circuit:
        outcome = call.outcome
        cut_short = call.ended >= until and isinstance(outcome, Failure) and outcome.category is Category.TIMEOUT
        if cut_short and not call.trial:
            return Circuit()  # its own deadline left it too little time; that says nothing of the provider
        return self._guard.ended(account, call)

    def _call(
        self, lookup: Lookup, request: LookupRequest, credentials: _Credentials, deadline: float, policy: RetryPolicy
    ) -> tuple[Lookup, Outcome | None]:
        """One call; a second one where the provider refused the access token, if there is one left to make.

        None where the worker ends before the second one.
        """
        renewed = False
        while True:
            # A request for an access token that fails counts as the call that it was wanted for, and takes of its time.
            lookup = lookup.attempted()
            until = min(deadline, monotonic() + self._http.limits.total)
            token: Secret | None = None
            if credentials.access_tokens is not None:
                got = credentials.access_tokens.get(until)
                if isinstance(got, Failure):
                    return lookup, got
                token = got
            question = Question(self._provider, request.reference, credentials.account, token)
            send = partial(self._http.send, believed=question.believed, again=question.request)
            response = self._observer.exchange(send, question.request(), until, request.reference)
            crash_points.reached("asked")
            if isinstance(response, Failure):
                return lookup, response
            if (
                token is None
                or credentials.access_tokens is None
                or renewed
                or not credentials.access_tokens.refused(response)
            ):
                return lookup, question.outcome(response)
            credentials.access_tokens.discard(token)
            renewed = True
            if not policy.allows(lookup.attempts):
                return lookup, question.outcome(response)
            if self._stopping.is_set():
                return lookup, None

    def _settled(self, lookup: Lookup, outcome: Outcome, call_seconds: float | None = None) -> Settled:
        return Settled(lookup, outcome, self._now(), call_seconds)


def _next_result(done: SimpleQueue[Step], end: float) -> Step | None:
    """The next step, if there is one until the clock shows ``end``."""
    try:
        return done.get(timeout=None if end == math.inf else max(0.0, end - monotonic()))
    except Empty:
        return None


def _why_not(lookup: Lookup, credentials: _Credentials | None) -> Failure:
    """Why a lookup ends without a call."""
    if lookup.request is None:
        return Failure(Category.INVALID_REQUEST, lookup.fault or "the request is not valid")
    if credentials is None:
        return Failure(Category.INVALID_REQUEST, "account: there is no such account")
    again = " again" if lookup.attempts else ""
    return Failure(Category.EXPIRED, f"the deadline passed before the provider was asked{again}")
