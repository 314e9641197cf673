"""What stands before a provider: its accounts' circuits and rate limits. Asked before each call, told after it."""

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final, Protocol

from cardtoken.contract import Category, Lane
from tasks.lookups.lookup import Lookup, Reason
from tasks.lookups.outcomes import Failure, Outcome
from tasks.telemetry import metrics

#: How a sick provider answers, if it does. What it says of a card, a key or a rate says nothing of its health.
SICK: Final = frozenset({Category.TIMEOUT, Category.UNAVAILABLE})
#: A call that took so many seconds and failed says nothing of the provider where one that was begun later ended well:
#: it was this reference that hung. Of quicker ones it is chance which ends first.
_SLOW: Final = 1.0
#: Seconds in which the calls that a list makes at once double, once a circuit is closed again.
_RAMP: Final = 0.5
#: Seconds that a list waits where others have all permits, before it goes back; and at least, before it asks again.
_PATIENCE: Final = 1.0
_LEAST: Final = 0.02
#: How many such steps there are: beyond them all is as before.
_STEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Circuit:
    """One look at a circuit: ``left`` seconds that it stays open, None where it is closed; ``trial``: try it, once.

    ``asked``: it is open because the provider asked to be left alone, by an answer of this category.
    """

    left: float | None = None
    trial: bool = False
    asked: Category | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What came of a lookup's call. ``began`` and ``ended`` are of ``time.monotonic``.

    ``repeated``: it was not the lookup's first call; ``trial``: it was to show whether the circuit may be closed.
    """

    outcome: Outcome
    began: float
    ended: float
    repeated: bool = False
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """Seconds from now until the moment of each permit given; where none was, ``wait`` before asking again."""

    moments: tuple[float, ...]
    wait: float = 0.0


class Circuits(Protocol):
    """The circuits of the fleet; ``tasks.stores.circuits`` has them."""

    def acquire(self, provider: str, account: str) -> Circuit: ...
    def known(self, provider: str, account: str) -> Circuit: ...
    def closed_for(self, provider: str, account: str) -> float | None: ...
    def record(self, provider: str, account: str, *, healthy: bool) -> None: ...
    def report_trial(self, provider: str, account: str, *, healthy: bool | None) -> Circuit: ...
    def leave_alone(self, provider: str, account: str, asked: Category, seconds: float, *, trial: bool) -> Circuit: ...


class RateLimits(Protocol):
    """The rate limits of the fleet; ``tasks.stores.permits`` has them."""

    def limits(self, provider: str) -> bool: ...
    def reserve(self, provider: str, account: str, lane: Lane, wanted: int) -> Reservation: ...


@dataclass(frozen=True, slots=True)
class CallNow:
    """Ask now. ``trial``: on how this ends depends whether the circuit is closed."""

    trial: bool = False


@dataclass(frozen=True, slots=True)
class PutBack:
    """Not this time: try again in so many seconds. ``asked`` as in :class:`Circuit`."""

    seconds: float
    reason: Reason
    asked: Category | None = None


@dataclass(frozen=True, slots=True)
class WaitFor:
    """In so many seconds; ``inf``: when a call of the same list has ended."""

    seconds: float


class Admission:
    """The guard of one provider, whose accounts are named."""

    def __init__(self, provider: str, accounts: Collection[str], circuits: Circuits, limits: RateLimits) -> None:
        self._provider = provider
        self._accounts = tuple(accounts)
        self._circuits = circuits
        self._limits = limits
        self._lock = threading.Lock()
        #: Account → when that of its calls which ended well was begun that was begun last.
        self._answered: dict[str, float] = {}

    def ended(self, account: str, call: Call) -> Circuit:
        """A call ended. Returns what the circuit is now, as far as this worker knows.

        A lookup whose call fails counts once: the same card asked for again and again says nothing of the others.
        """
        if isinstance(call.outcome, Failure) and not call.outcome.local and _wants_rest(call.outcome):
            seconds = call.outcome.retry_after or 0.0
            return self._circuits.leave_alone(self._provider, account, call.outcome.category, seconds, trial=call.trial)
        healthy = _healthy(call.outcome)
        if call.trial:
            # A gateway's page is no sign that the provider behind it is back.
            unread = isinstance(call.outcome, Failure) and call.outcome.may_pass
            return self._circuits.report_trial(self._provider, account, healthy=False if unread else healthy)
        if healthy:
            with self._lock:
                self._answered[account] = max(call.began, self._answered.get(account, call.began))
        if healthy or (healthy is not None and self._counts_against(account, call)):
            self._circuits.record(self._provider, account, healthy=healthy)
        return self._circuits.known(self._provider, account)

    def _counts_against(self, account: str, call: Call) -> bool:
        slow = call.ended - call.began >= _SLOW
        return not call.repeated and not (slow and self._answered.get(account, -inf) > call.began)

    def gave_up(self, account: str) -> None:
        """A trial ended without a call that says anything of the provider."""
        self._circuits.report_trial(self._provider, account, healthy=None)

    def open_for(self, account: str) -> PutBack | None:
        """How long the account's circuit stays open, as far as this worker knows, and why; None where it is closed."""
        circuit = self._circuits.known(self._provider, account)
        return None if circuit.left is None else _later(max(0.0, circuit.left), circuit)

    def left(self) -> float | None:
        """Seconds until an account may be tried, where the circuits of all are open; None: some can be asked."""
        soonest = inf
        for account in self._accounts:
            left = self._circuits.known(self._provider, account).left
            if left is None:
                return None
            soonest = min(soonest, left)
        return soonest if self._accounts else None

    @property
    def holds_all(self) -> bool:
        """Whether what holds one lookup up holds up all of this provider."""
        return len(self._accounts) == 1 or self.left() is not None

    def turns(self, lane: Lane) -> "BatchAdmission":
        """The turns of one list."""
        return BatchAdmission(self._provider, lane, self._circuits, self._limits)


def _later(seconds: float, circuit: Circuit) -> PutBack:
    return PutBack(seconds, Reason.RETRY_AFTER if circuit.asked else Reason.CIRCUIT, circuit.asked)


def _wants_rest(failure: Failure) -> bool:
    """Whether the provider asks to be left alone: by a 429, or by a Retry-After where it cannot help now."""
    return failure.category is Category.RATE_LIMITED or (failure.category in SICK and bool(failure.retry_after))


def _healthy(outcome: Outcome) -> bool | None:
    """Whether a call shows that the provider is well; None: it shows neither."""
    if not isinstance(outcome, Failure):
        return True
    if outcome.local or outcome.may_pass:
        return None
    return outcome.category not in SICK


class BatchAdmission:
    """Says of one list's lookups whose turn it is to be asked. For one thread."""

    def __init__(self, provider: str, lane: Lane, circuits: Circuits, limits: RateLimits) -> None:
        self._provider = provider
        self._lane = lane
        self._circuits = circuits
        self._limits = limits if limits.limits(provider) else None
        #: Account → moments at which its lookups may be asked.
        self._permits: dict[str, deque[float]] = {}
        #: Account → since when it has been given none.
        self._without: dict[str, float] = {}
        #: Account → since when its next lookup wants a permit.
        self._since: dict[str, float] = {}
        self._trials: dict[str, int] = {}

    def next(self, lookup: Lookup, running: int, waiting: Callable[[], int]) -> CallNow | WaitFor | PutBack:
        """Whether it is this lookup's turn. ``waiting`` counts the lookups of its account that are not yet running."""
        account = lookup.account
        if account in self._trials:
            return WaitFor(inf)
        circuit = self._circuits.acquire(self._provider, account)
        if circuit.trial:
            return CallNow(trial=True)
        if circuit.left is not None:
            return _later(circuit.left, circuit)
        if self._lane is Lane.BULK and running >= self._width(account):
            return WaitFor(inf)
        return CallNow() if self._limits is None else self._permitted(self._limits, account, waiting)

    def trying(self, lookup: Lookup) -> None:
        """This lookup makes the trial; the others of its account wait for it."""
        self._trials[lookup.account] = lookup.index

    def ended(self, lookup: Lookup) -> None:
        """A lookup that was asked is back."""
        if self._trials.get(lookup.account) == lookup.index:
            del self._trials[lookup.account]

    def _permitted(self, limits: RateLimits, account: str, waiting: Callable[[], int]) -> CallNow | WaitFor | PutBack:
        permits = self._permits.setdefault(account, deque())
        self._since.setdefault(account, monotonic())
        if not permits:
            found = limits.reserve(self._provider, account, self._lane, waiting())
            now = monotonic()
            if not found.moments:
                wait = max(found.wait, _LEAST)
                patient = now + wait - self._without.setdefault(account, now) < _PATIENCE
                return WaitFor(wait) if patient else PutBack(wait, Reason.RATE_LIMIT)
            self._without.pop(account, None)
            permits.extend(now + moment for moment in found.moments)
        left = permits[0] - monotonic()
        if left > 0:
            return WaitFor(left)
        permits.popleft()
        waited = max(0.0, monotonic() - self._since.pop(account))
        metrics.PERMIT_WAIT_SECONDS.labels(self._provider, self._lane).observe(waited)
        return CallNow()

    def _width(self, account: str) -> float:
        """How many calls a list may make at once: few after a circuit was closed, and soon any number."""
        closed_for = self._circuits.closed_for(self._provider, account)
        steps = inf if closed_for is None else closed_for / _RAMP
        return inf if steps > _STEPS else 2.0**steps
