"""Circuits, shared by the fleet: whether an account of a provider may be called at all.

A circuit is open while its provider is down, while the provider has asked to be left alone, or while an operator holds
it open. Counts and decisions are in Redis, in one script; each worker keeps a copy of which circuits are open, so that
Redis is not asked before a call while all is well.
"""

import logging
import math
import threading
from collections import defaultdict
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from redis import Redis, RedisError

from cardtoken.circuits import ASKED, FORCED, OPEN, circuit_key, circuit_name, whole
from cardtoken.contract import Category
from cardtoken.scripts import source
from tasks.calls.admission import Circuit

logger = logging.getLogger(__name__)

#: Seconds over which calls are counted, their lowest number, and the share of failed ones that opens a circuit.
WINDOW: Final = 10.0
VOLUME: Final = 20
SHARE: Final = 0.5
#: Seconds that it is open: at first, doubled after each failed trial, and at most.
FIRST: Final = 1.0
LONGEST: Final = 15.0
#: The longest, in seconds, that a provider is left alone because it asked for that, before a trial: a mistake in a
#: Retry-After must not silence an account for a day.
LONGEST_ASKED: Final = 900.0
#: Seconds between two refreshes from Redis.
PAUSE: Final = 0.5
#: Seconds after which a trial is asked for again while another worker makes one.
TRYING: Final = 0.25
#: This many failed calls are reported at once, and not at the next refresh.
_REPORT_AT_ONCE: Final = 5


CLOSED: Final = Circuit()


@dataclass(slots=True)
class _Counts:
    """Calls that have not been reported to Redis yet."""

    good: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class _Open:
    """An open circuit: until when, and since when that is known, by this process's monotonic clock."""

    until: float
    known: float
    #: The category of the answer by which the provider asked to be left alone, if it did.
    asked: Category | None = None


class Circuits:
    """All circuits, as this worker sees them. Every method may be called from any thread.

    A trial that is not reported within ``patience`` seconds is abandoned: another worker may make one. While Redis
    cannot be reached, a circuit counts as it was last known.
    """

    def __init__(self, redis: Redis, patience: float) -> None:
        self._redis = redis
        self._script = redis.register_script(source(__package__, "circuit"))
        self._settings = [WINDOW * 1000, VOLUME, SHARE, FIRST * 1000, LONGEST * 1000, patience * 1000]
        self._lock = threading.Lock()
        #: By name; a circuit that is not here is closed.
        self._open: dict[str, _Open] = {}
        self._closed_at: dict[str, float] = {}
        self._counts: defaultdict[tuple[str, str], _Counts] = defaultdict(_Counts)

    def acquire(self, provider: str, account: str) -> Circuit:
        """Return the state of the account's circuit. If a trial is due, one worker of the fleet is given it."""
        known = self.known(provider, account)
        is_due = known.seconds_until_trial is not None and known.seconds_until_trial <= 0
        return self._run_script(provider, account, "ask") if is_due else known

    def known(self, provider: str, account: str) -> Circuit:
        """Return the state as far as this worker knows, without a round trip to Redis and without a trial."""
        if not self._open:
            return CLOSED
        names = (circuit_name(provider, account), whole(provider))
        found = [state for name in names if (state := self._open.get(name)) is not None]
        if not found:
            return CLOSED
        last = max(found, key=lambda state: state.until)
        return Circuit(last.until - monotonic(), asked=last.asked)

    def closed_for(self, provider: str, account: str) -> float | None:
        """Return the seconds since this worker saw it closed again; None if it has never been open."""
        at = [
            self._closed_at[name]
            for name in (circuit_name(provider, account), whole(provider))
            if name in self._closed_at
        ]
        return monotonic() - max(at) if at else None

    def record(self, provider: str, account: str, *, healthy: bool) -> None:
        """Record an outcome. It is reported to Redis with others, failures sooner."""
        with self._lock:
            counts = self._counts[provider, account]
            counts.good += healthy
            counts.bad += not healthy
            now = counts.bad >= _REPORT_AT_ONCE
        if now:
            self._run_script(provider, account, "")

    def report_trial(self, provider: str, account: str, *, healthy: bool | None) -> Circuit:
        """Record a trial; ``healthy`` is None if it showed nothing. Return the state of the circuit after it."""
        return self._run_script(provider, account, "nothing" if healthy is None else "well" if healthy else "badly")

    def leave_alone(self, provider: str, account: str, asked: Category, seconds: float, *, trial: bool) -> Circuit:
        """Open the circuit because the provider asked for it, in an answer of this category.

        With 0 seconds, the provider did not say for how long: the circuit is open for as long as that of a provider
        that is down, a second at first and longer each time. Return the state of the circuit after it.
        """
        return self._run_script(
            provider, account, "badly" if trial else "", asked, min(LONGEST_ASKED, max(0.0, seconds))
        )

    def refresh(self) -> None:
        """Report what was counted, and read which circuits are open. Raises ``redis.RedisError``."""
        for provider, account in list(self._counts):
            self._run_script(provider, account, "")
        here = monotonic()
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zrange(OPEN, 0, -1, withscores=True)
            pipeline.zrange(FORCED, 0, -1, withscores=True)
            pipeline.hgetall(ASKED)
            (seconds, micros), opened, forced, requests = pipeline.execute()
        now = seconds * 1000 + micros / 1000
        known: dict[str, _Open] = {}
        for name, until in opened:
            asked, pause = _parse_request(requests.get(name))
            left = (until - now) / 1000
            # Further ahead than possible: the clock of Redis went back, so a trial is due.
            known[name.decode()] = _Open(here + (left if 0 < left <= pause else 0.0), here, asked)
        known |= {name.decode(): _Open(here + (until - now) / 1000, here) for name, until in forced if until > now}
        for name in self._open.keys() | known.keys():
            self._note(name, known.get(name), here)

    def _run_script(
        self, provider: str, account: str, trial: str, asked: Category | None = None, seconds: float = 0.0
    ) -> Circuit:
        name = circuit_name(provider, account)
        with self._lock:
            counts = self._counts.pop((provider, account), _Counts())
        request = [asked or "", math.ceil(seconds * 1000)]
        try:
            args: list[Any] = [name, whole(provider), counts.good, counts.bad, trial, *self._settings, *request]
            state, left, why = self._script(keys=[circuit_key(name), OPEN, FORCED, ASKED], args=args)
        except (RedisError, OSError):
            if asked is not None:  # at least this worker obeys
                return self._leave_alone_here(name, asked, seconds)
            if trial != "ask":
                return CLOSED
            return Circuit(trial=True)  # without Redis every worker makes a trial, which is better than none
        if state == b"try":
            return Circuit(trial=True)
        now = monotonic()
        if state == b"closed":
            self._note(name, None, now)
            return CLOSED
        left, asked = int(left) / 1000 or TRYING, _category(why)
        self._note(name, _Open(now + left, now, asked), now)
        return Circuit(left, asked=asked)

    def _leave_alone_here(self, name: str, asked: Category, seconds: float) -> Circuit:
        now, left = monotonic(), seconds or FIRST
        self._note(name, _Open(now + left, now, asked), now)
        return Circuit(left, asked=asked)

    def _note(self, name: str, state: _Open | None, known: float) -> None:
        """Keep what was known of a circuit at a moment, unless something newer is known by now."""
        with self._lock:
            before = self._open.get(name)
            if before is not None and before.known > known:
                return
            if state is None:
                if self._open.pop(name, None) is not None:
                    self._closed_at[name] = monotonic()
            else:
                self._open[name] = state
        if before is not None and state is None:
            logger.info("circuit %s is closed: calls are made again", name)
        elif state is not None and before is None:
            why = f"the provider asked for it ({state.asked})" if state.asked else "the provider is down, or it is held"
            logger.warning("circuit %s is open, %s: no calls for %.1f s", name, why, state.until - monotonic())


def _parse_request(value: bytes | None) -> tuple[Category | None, float]:
    """Return the category of the answer that asked for it, and the most seconds that the circuit can be open."""
    if value is None:
        return None, LONGEST
    why, _, pause = value.partition(b" ")
    return _category(why), int(pause or 0) / 1000


def _category(name: bytes) -> Category | None:
    try:
        return Category(name.decode())
    except ValueError:  # none, or one of a later release
        return None
