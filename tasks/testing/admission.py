"""Circuits and rate limits in memory, of one process: what ``tasks.stores`` keeps in Redis for a fleet."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cardtoken.contract import Category, Lane
from tasks.calls.admission import Circuit, Reservation

#: Seconds that a circuit is open at first, and at most; and until a trial is asked for again while another one runs.
_FIRST: Final = 1.0
_LONGEST: Final = 15.0
_TRIAL_PAUSE: Final = 0.25


@dataclass(slots=True)
class _State:
    failures: int = 0
    open_until: float | None = None
    times: int = 0
    is_tried: bool = False
    asked: Category | None = None
    closed_at: float | None = None


@dataclass
class MemoryCircuits:
    """Circuits by account, of any provider.

    A circuit opens after ``failures_to_open`` failed calls in a row. ``recorded`` holds the outcomes of calls as they
    were reported, ``trials`` those of trials, ``requests`` what the provider asked for: each with its account first.
    """

    monotonic: Callable[[], float]
    failures_to_open: int = 20
    recorded: list[tuple[str, bool]] = field(default_factory=list)
    trials: list[tuple[str, bool | None]] = field(default_factory=list)
    requests: list[tuple[str, Category, float, bool]] = field(default_factory=list)
    _states: defaultdict[str, _State] = field(default_factory=lambda: defaultdict(_State))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def acquire(self, provider: str, account: str) -> Circuit:  # noqa: ARG002 - the port's signature
        """Return the state of the account's circuit, with the trial if it is due and not given yet."""
        with self._lock:
            state = self._states[account]
            if state.open_until is None or state.open_until > self.monotonic():
                return self._circuit(state)
            if state.is_tried:
                return Circuit(_TRIAL_PAUSE, asked=state.asked)
            state.is_tried = True
            return Circuit(trial=True)

    def known(self, provider: str, account: str) -> Circuit:  # noqa: ARG002 - the port's signature
        """Return the state of the account's circuit."""
        return self._circuit(self._states[account])

    def closed_for(self, provider: str, account: str) -> float | None:  # noqa: ARG002 - the port's signature
        """Return the seconds since it was closed again; None if it has never been open."""
        closed_at = self._states[account].closed_at
        return None if closed_at is None else self.monotonic() - closed_at

    def record(self, provider: str, account: str, *, healthy: bool) -> None:  # noqa: ARG002 - the port's signature
        """Record an outcome."""
        with self._lock:
            state = self._states[account]
            self.recorded.append((account, healthy))
            state.failures = 0 if healthy else state.failures + 1
            if state.failures >= self.failures_to_open:
                self._open(state, 0)

    def report_trial(self, provider: str, account: str, *, healthy: bool | None) -> Circuit:  # noqa: ARG002
        """Record a trial. Return the state of the circuit after it."""
        with self._lock:
            state = self._states[account]
            self.trials.append((account, healthy))
            over = healthy is False and state.asked is Category.RATE_LIMITED
            if state.open_until is None or healthy or over:
                if state.open_until is not None:
                    state.closed_at = self.monotonic()
                state.open_until, state.asked, state.is_tried = None, None, False
            elif healthy is None:
                self._open(state, 0, state.asked)
            else:
                self._open(state, state.times + 1)
            return self._circuit(state)

    def leave_alone(self, provider: str, account: str, asked: Category, seconds: float, *, trial: bool) -> Circuit:  # noqa: ARG002
        """Open the circuit because the provider asked for it. Return its state."""
        with self._lock:
            state = self._states[account]
            self.requests.append((account, asked, seconds, trial))
            left = self._circuit(state).seconds_until_trial
            if left is None or trial or seconds > max(left, 0.0):
                self._open(state, state.times + 1 if trial else 0, asked, seconds)
            return self._circuit(state)

    def _open(self, state: _State, times: int, asked: Category | None = None, seconds: float = 0.0) -> None:
        state.open_until = self.monotonic() + (seconds or min(_FIRST * 2**times, _LONGEST))
        state.times, state.asked, state.is_tried, state.failures = times, asked, False, 0

    def _circuit(self, state: _State) -> Circuit:
        if state.open_until is None:
            return Circuit()
        return Circuit(state.open_until - self.monotonic(), asked=state.asked)


@dataclass
class MemoryRateLimiter:
    """A rate limit by provider: as many calls as there are ``permits``. A provider that is not in them is not limited.

    ``wait`` is the time in seconds after which to ask again while there is none, ``spacing`` that between two slots.
    """

    permits: Counter[str] = field(default_factory=Counter)
    wait: float = 0.05
    spacing: float = 0.0
    wanted: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def limits(self, provider: str, account: str) -> bool:  # noqa: ARG002 - the port's signature
        """Return whether this provider has a limit."""
        return provider in self.permits

    def reserve(self, provider: str, account: str, lane: Lane, wanted: int) -> Reservation:  # noqa: ARG002
        """Reserve up to ``wanted`` permits."""
        with self._lock:
            self.wanted.append(wanted)
            given = min(wanted, self.permits[provider])
            self.permits[provider] -= given
        return Reservation(tuple(number * self.spacing for number in range(given)), 0.0 if given else self.wait)
