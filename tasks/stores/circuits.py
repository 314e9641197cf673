"""Circuits, shared by the fleet: whether an account of a provider may be asked at all.

A circuit is open while its provider is sick, while it has asked to be left alone, or while a person holds it open.
Counts and decisions are in Redis, in one script; each worker keeps a copy of which circuits are open, so that Redis is
not asked before a call while all is well.
"""

import logging
import math
import threading
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from time import monotonic
from typing import Any, Final

from redis import Redis, RedisError

from cardtoken.circuits import ASKED, FORCED, OPEN, circuit_key, circuit_name, whole
from cardtoken.contract import Category
from tasks.calls.admission import Circuit

logger = logging.getLogger(__name__)

#: Seconds over which calls are counted, how many there have to be, and the share of bad ones that opens a circuit.
WINDOW: Final = 10.0
VOLUME: Final = 20
SHARE: Final = 0.5
#: Seconds that it is open: at first, doubled each time that a try ends badly, and at most.
FIRST: Final = 1.0
LONGEST: Final = 15.0
#: The longest, in seconds, that a provider is left alone because it asked for that, before one lookup asks whether it
#: still holds: a slip in a Retry-After must not silence an account for a day.
LONGEST_ASKED: Final = 900.0
#: Seconds between two looks at what the other workers know.
PAUSE: Final = 0.5
#: Seconds after which leave to try is asked for again where somebody else is trying.
TRYING: Final = 0.25
#: Bad calls that are told at once, and not at the next look.
_AT_ONCE: Final = 5


CLOSED: Final = Circuit()


@dataclass(slots=True)
class _Counts:
    """Calls that Redis has not been told of yet."""

    good: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class _Open:
    """An open circuit: until when, and since when that is known, on this process's clock."""

    until: float
    known: float
    #: The category of the answer by which the provider asked to be left alone, if it did.
    asked: Category | None = None


class Circuits:
    """All circuits, as this worker sees them. Every method may be called from any thread.

    ``patience`` is how many seconds a try may take before another worker may make one. Where Redis cannot answer, a
    circuit is taken to be as it was last known.
    """

    def __init__(self, redis: Redis, patience: float) -> None:
        self._redis = redis
        self._script = redis.register_script(files(__package__).joinpath("circuit.lua").read_text(encoding="utf-8"))
        self._settings = [WINDOW * 1000, VOLUME, SHARE, FIRST * 1000, LONGEST * 1000, patience * 1000]
        self._lock = threading.Lock()
        #: By name; a circuit that is not here is closed.
        self._open: dict[str, _Open] = {}
        self._closed_at: dict[str, float] = {}
        self._counts: defaultdict[tuple[str, str], _Counts] = defaultdict(_Counts)

    def acquire(self, provider: str, account: str) -> Circuit:
        """Whether the account may be asked; one that has been open long enough may be tried, by one worker."""
        known = self.known(provider, account)
        return self._say(provider, account, "ask") if known.left is not None and known.left <= 0 else known

    def known(self, provider: str, account: str) -> Circuit:
        """The same as far as this worker knows: ``left`` is 0 or less once it may be tried. Asks nothing of Redis."""
        if not self._open:
            return CLOSED
        names = (circuit_name(provider, account), whole(provider))
        found = [state for name in names if (state := self._open.get(name)) is not None]
        if not found:
            return CLOSED
        last = max(found, key=lambda state: state.until)
        return Circuit(last.until - monotonic(), asked=last.asked)

    def closed_for(self, provider: str, account: str) -> float | None:
        """Seconds since this worker heard that it was closed again; None where it has never been open."""
        at = [
            self._closed_at[name]
            for name in (circuit_name(provider, account), whole(provider))
            if name in self._closed_at
        ]
        return monotonic() - max(at) if at else None

    def record(self, provider: str, account: str, *, healthy: bool) -> None:
        """A call ended; told to Redis with others, and soon where it ended badly."""
        with self._lock:
            counts = self._counts[provider, account]
            counts.good += healthy
            counts.bad += not healthy
            now = counts.bad >= _AT_ONCE
        if now:
            self._say(provider, account, "")

    def report_trial(self, provider: str, account: str, *, healthy: bool | None) -> Circuit:
        """A try ended; None: in a way that says nothing of the provider. Returns what the circuit is now."""
        return self._say(provider, account, "nothing" if healthy is None else "well" if healthy else "badly")

    def leave_alone(self, provider: str, account: str, asked: Category, seconds: float, *, trial: bool) -> Circuit:
        """The provider asked for this, by an answer of that category; 0 seconds: it did not say for how long.

        Then it is left alone for as long as a sick one: a second at first, longer each time. Returns what the circuit
        is now.
        """
        return self._say(provider, account, "badly" if trial else "", asked, min(LONGEST_ASKED, max(0.0, seconds)))

    def refresh(self) -> None:
        """Tell what was counted, and learn which circuits are open."""
        for provider, account in list(self._counts):
            self._say(provider, account, "")
        here = monotonic()
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zrange(OPEN, 0, -1, withscores=True)
            pipeline.zrange(FORCED, 0, -1, withscores=True)
            pipeline.hgetall(ASKED)
            (seconds, micros), tripped, forced, wishes = pipeline.execute()
        now = seconds * 1000 + micros / 1000
        known: dict[str, _Open] = {}
        for name, until in tripped:
            asked, pause = _wish(wishes.get(name))
            left = (until - now) / 1000
            # Further ahead than can be: the clock of Redis went back, and the moment is over.
            known[name.decode()] = _Open(here + (left if 0 < left <= pause else 0.0), here, asked)
        known |= {name.decode(): _Open(here + (until - now) / 1000, here) for name, until in forced if until > now}
        for name in self._open.keys() | known.keys():
            self._note(name, known.get(name), here)

    def _say(
        self, provider: str, account: str, trial: str, asked: Category | None = None, seconds: float = 0.0
    ) -> Circuit:
        name = circuit_name(provider, account)
        with self._lock:
            counts = self._counts.pop((provider, account), _Counts())
        wish = [asked or "", math.ceil(seconds * 1000)]
        try:
            args: list[Any] = [name, whole(provider), counts.good, counts.bad, trial, *self._settings, *wish]
            state, left, why = self._script(keys=[circuit_key(name), OPEN, FORCED, ASKED], args=args)
        except (RedisError, OSError):
            if asked is not None:  # this worker at least keeps to it
                return self._leave_alone_here(name, asked, seconds)
            if trial != "ask":
                return CLOSED
            return Circuit(trial=True)  # Redis cannot say which worker tries; better some than none
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
        """Keep what was known of a circuit at a moment, unless it is known better by now."""
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
            logger.info("circuit %s is closed: it is asked again", name)
        elif state is not None and before is None:
            why = f"the provider wants it ({state.asked})" if state.asked else "the provider is down, or it is held"
            logger.warning("circuit %s is open, %s: it is not asked for %.1f s", name, why, state.until - monotonic())


def _wish(value: bytes | None) -> tuple[Category | None, float]:
    """By which answer the provider asked to be left alone, and for how many seconds a circuit is open at most."""
    if value is None:
        return None, LONGEST
    why, _, pause = value.partition(b" ")
    return _category(why), int(pause or 0) / 1000


def _category(name: bytes) -> Category | None:
    try:
        return Category(name.decode())
    except ValueError:  # none, or one of a release to come
        return None
