"""Admission to one provider: its accounts' circuits and rate limits, asked before each call and informed after it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from cardtoken.contract import Category, Lane
from tasks.lookups.lookup import Lookup, Reason
from tasks.lookups.outcomes import Failure, Outcome
from tasks.telemetry import metrics

#: The failures that count against a provider. What it says of a card, a key or a rate is not about its health.
UNHEALTHY: Final = frozenset({Category.TIMEOUT, Category.UNAVAILABLE})
#: A call that took this many seconds and failed does not count if a call that began later succeeded: then it was this
#: reference that hung. Of quicker calls it is chance which ends first.
_SLOW_SECONDS: Final = 1.0
#: Seconds in which the calls that a list makes at once double, after a circuit was closed.
_RAMP_SECONDS: Final = 0.5
#: Number of such steps, after which any number of calls is made at once.
_RAMP_STEPS: Final = 12
#: Seconds that a list waits for permits, while other lists have them all, before it goes back to its queue.
_PATIENCE_SECONDS: Final = 1.0
#: The shortest wait in seconds before permits are asked for again.
_MIN_WAIT_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Circuit:
    """The state of a circuit.

    ``seconds_until_trial``: None if the circuit is closed; 0 or less if it is open and a trial is due. ``trial``: the
    caller makes the trial, and must report it. ``asked``: the circuit is open because the provider asked to be left
    alone, in an answer of this category.
    """

    seconds_until_trial: float | None = None
    trial: bool = False
    asked: Category | None = None


@dataclass(frozen=True, slots=True)
class CompletedCall:
    """A lookup's call and its outcome. ``began`` and ``ended`` are by the monotonic clock.

    ``repeated``: it was not the lookup's first call; ``trial``: it was the trial of an open circuit.
    """

    outcome: Outcome
    began: float
    ended: float
    repeated: bool = False
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """Permits to call: the seconds from now until each slot. Without any, ``wait`` seconds until the next request."""

    moments: tuple[float, ...]
    wait: float = 0.0


class CircuitBreakers(Protocol):
    """The circuits of the fleet. ``tasks.stores.circuits`` has them in Redis, ``tasks.testing`` in memory."""

    def acquire(self, provider: str, account: str) -> Circuit: ...
    def known(self, provider: str, account: str) -> Circuit: ...
    def closed_for(self, provider: str, account: str) -> float | None: ...
    def record(self, provider: str, account: str, *, healthy: bool) -> None: ...
    def report_trial(self, provider: str, account: str, *, healthy: bool | None) -> Circuit: ...
    def leave_alone(self, provider: str, account: str, asked: Category, seconds: float, *, trial: bool) -> Circuit: ...


class RateLimiter(Protocol):
    """The rate limits of the fleet. ``tasks.stores.permits`` has them in Redis, ``tasks.testing`` in memory."""

    def limits(self, provider: str, account: str) -> bool: ...
    def reserve(self, provider: str, account: str, lane: Lane, wanted: int) -> Reservation: ...


@dataclass(frozen=True, slots=True)
class CallNow:
    """Call now. ``trial``: the outcome decides whether the circuit is closed."""

    trial: bool = False


@dataclass(frozen=True, slots=True)
class PutBack:
    """Do not call; retry after ``seconds``. ``asked`` as in :class:`Circuit`."""

    seconds: float
    reason: Reason
    asked: Category | None = None


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Retry after ``seconds``; ``inf``: when a running call of this list finishes."""

    seconds: float


class Admission:
    """Admission to one provider with these accounts. Every method may be called from any thread."""

    def __init__(
        self,
        provider: str,
        accounts: Collection[str],
        circuits: CircuitBreakers,
        limits: RateLimiter,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._accounts = tuple(accounts)
        self._circuits = circuits
        self._limits = limits
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: Account → when its latest successful call began.
        self._answered: dict[str, float] = {}

    def replace(self, accounts: Collection[str]) -> None:
        """Use these accounts from now on."""
        self._accounts = tuple(accounts)

    def record(self, account: str, call: CompletedCall) -> Circuit:
        """Record a call. Return the state of the circuit, as far as this worker knows.

        A lookup whose calls fail counts once: a card that is asked for again and again is one sign and not many.
        """
        failure = call.outcome if isinstance(call.outcome, Failure) else None
        if failure is not None and not failure.local and _asks_to_be_left_alone(failure):
            seconds = failure.retry_after or 0.0
            return self._circuits.leave_alone(self._provider, account, failure.category, seconds, trial=call.trial)
        healthy = _healthy(call.outcome)
        if call.trial:
            # A gateway's page is not a sign that the provider behind it is back.
            unread = failure is not None and failure.may_pass
            return self._circuits.report_trial(self._provider, account, healthy=False if unread else healthy)
        if healthy:
            with self._lock:
                self._answered[account] = max(call.began, self._answered.get(account, call.began))
        if healthy or (healthy is not None and self._counts_against(account, call)):
            self._circuits.record(self._provider, account, healthy=healthy)
        return self._circuits.known(self._provider, account)

    def _counts_against(self, account: str, call: CompletedCall) -> bool:
        slow = call.ended - call.began >= _SLOW_SECONDS
        return not call.repeated and not (slow and self._answered.get(account, -inf) > call.began)

    def abandon_trial(self, account: str) -> None:
        """Report a trial that ended without a call, or with one that shows nothing about the provider."""
        self._circuits.report_trial(self._provider, account, healthy=None)

    def check_open(self, account: str) -> PutBack | None:
        """Return for how long and why the account's circuit is open, as far as this worker knows; None if closed."""
        circuit = self._circuits.known(self._provider, account)
        if circuit.seconds_until_trial is None:
            return None
        return _put_back(max(0.0, circuit.seconds_until_trial), circuit)

    def seconds_until_trial(self) -> float | None:
        """Return the seconds until one account may be tried if the circuits of all are open, else None."""
        soonest = inf
        for account in self._accounts:
            seconds = self._circuits.known(self._provider, account).seconds_until_trial
            if seconds is None:
                return None
            soonest = min(soonest, seconds)
        return soonest if self._accounts else None

    @property
    def blocks_all(self) -> bool:
        """Whether what blocks one lookup of this provider blocks all of them."""
        return len(self._accounts) == 1 or self.seconds_until_trial() is not None

    def for_batch(self, lane: Lane) -> "BatchAdmission":
        """Return the admission of one list."""
        return BatchAdmission(self._provider, lane, self._circuits, self._limits, self._monotonic)


def _put_back(seconds: float, circuit: Circuit) -> PutBack:
    return PutBack(seconds, Reason.RETRY_AFTER if circuit.asked else Reason.CIRCUIT, circuit.asked)


def _asks_to_be_left_alone(failure: Failure) -> bool:
    """By a 429, or by a Retry-After where the provider is unable to answer now."""
    return failure.category is Category.RATE_LIMITED or (failure.category in UNHEALTHY and bool(failure.retry_after))


def _healthy(outcome: Outcome) -> bool | None:
    """Return whether a call shows that the provider is well; None if it shows nothing."""
    if not isinstance(outcome, Failure):
        return True
    if outcome.local or outcome.may_pass:
        return None
    return outcome.category not in UNHEALTHY


class BatchAdmission:
    """Decides which lookups of one list may be called now. For one thread."""

    def __init__(
        self,
        provider: str,
        lane: Lane,
        circuits: CircuitBreakers,
        limits: RateLimiter,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._lane = lane
        self._circuits = circuits
        self._limits = limits
        self._monotonic = monotonic
        #: Account → moments at which its lookups may be called.
        self._permits: dict[str, deque[float]] = {}
        #: Account → since when no permit has been given.
        self._denied_since: dict[str, float] = {}
        #: Account → since when its next lookup has waited for a permit.
        self._wanted_since: dict[str, float] = {}
        #: Account → index of the lookup that makes the trial.
        self._trials: dict[str, int] = {}

    def decide(self, lookup: Lookup, running: int, waiting: Callable[[], int]) -> CallNow | WaitFor | PutBack:
        """Return what to do with a lookup. ``waiting`` counts the lookups of its account that are not running yet."""
        account = lookup.account
        if account in self._trials:
            return WaitFor(inf)
        circuit = self._circuits.acquire(self._provider, account)
        if circuit.trial:
            return CallNow(trial=True)
        if circuit.seconds_until_trial is not None:
            return _put_back(circuit.seconds_until_trial, circuit)
        if self._lane is Lane.BULK and running >= self._width(account):
            return WaitFor(inf)
        return self._reserve(account, waiting) if self._limits.limits(self._provider, account) else CallNow()

    def begin_trial(self, lookup: Lookup) -> None:
        """Let the other lookups of its account wait for this one, which makes the trial."""
        self._trials[lookup.account] = lookup.index

    def finished(self, lookup: Lookup) -> None:
        """Note that the call of a lookup has finished."""
        if self._trials.get(lookup.account) == lookup.index:
            del self._trials[lookup.account]

    def _reserve(self, account: str, waiting: Callable[[], int]) -> CallNow | WaitFor | PutBack:
        permits = self._permits.setdefault(account, deque())
        self._wanted_since.setdefault(account, self._monotonic())
        if not permits:
            found = self._limits.reserve(self._provider, account, self._lane, waiting())
            now = self._monotonic()
            if not found.moments:
                wait = max(found.wait, _MIN_WAIT_SECONDS)
                patient = now + wait - self._denied_since.setdefault(account, now) < _PATIENCE_SECONDS
                return WaitFor(wait) if patient else PutBack(wait, Reason.RATE_LIMIT)
            self._denied_since.pop(account, None)
            permits.extend(now + moment for moment in found.moments)
        seconds = permits[0] - self._monotonic()
        if seconds > 0:
            return WaitFor(seconds)
        permits.popleft()
        waited = max(0.0, self._monotonic() - self._wanted_since.pop(account))
        metrics.PERMIT_WAIT_SECONDS.labels(self._provider, self._lane).observe(waited)
        return CallNow()

    def _width(self, account: str) -> float:
        """Return how many calls a list may make at once: one when a circuit has just been closed, soon any number."""
        closed_for = self._circuits.closed_for(self._provider, account)
        steps = inf if closed_for is None else closed_for / _RAMP_SECONDS
        return inf if steps > _RAMP_STEPS else 2.0**steps
