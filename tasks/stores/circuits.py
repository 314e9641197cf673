"""Circuits, shared by the fleet: whether an account of a provider may be asked at all.

A circuit is open while its provider is sick, or while somebody holds it open. Counts and decisions are in Redis, in one
script; each worker keeps a copy of which circuits are open, so that nobody asks Redis before a call while all is well.
"""

import logging
import threading
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from time import monotonic
from typing import Any, Final

from redis import Redis, RedisError

from cardtoken.circuits import FORCED, OPEN, circuit_key, circuit_name, whole
from tasks.guard import Circuit

logger = logging.getLogger(__name__)

#: Seconds over which calls are counted, how many there have to be, and the share of bad ones that opens a circuit.
WINDOW: Final = 10.0
VOLUME: Final = 20
SHARE: Final = 0.5
#: Seconds that it is open: at first, doubled each time that a try ends badly, and at most.
FIRST: Final = 1.0
LONGEST: Final = 15.0
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


class Circuits:
    """All circuits, as this worker sees them. Every method may be called from any thread.

    ``patience`` is how many seconds a try may take before another worker may make one. Where Redis cannot answer, a
    circuit is taken to be as it was last known.
    """

    def __init__(self, redis: Redis, patience: float) -> None:
        self._redis = redis
        self._script = redis.register_script(files(__package__).joinpath("circuit.lua").read_text())
        self._settings = [WINDOW * 1000, VOLUME, SHARE, FIRST * 1000, LONGEST * 1000, patience * 1000]
        self._lock = threading.Lock()
        #: Name → until when it is open, on this process's clock; a circuit that is not here is closed.
        self._open: dict[str, float] = {}
        self._closed_at: dict[str, float] = {}
        self._counts: defaultdict[tuple[str, str], _Counts] = defaultdict(_Counts)

    def look(self, provider: str, account: str) -> Circuit:
        """Whether the account may be asked; one that has been open long enough may be tried, by one worker."""
        left = self.left(provider, account)
        if left is None:
            return CLOSED
        return Circuit(left) if left > 0 else self._say(provider, account, "ask")

    def left(self, provider: str, account: str) -> float | None:
        """Seconds until it may be tried, as far as this worker knows: 0 or less from then on; None: it is closed."""
        if not self._open:
            return None
        found = [self._open[name] for name in (circuit_name(provider, account), whole(provider)) if name in self._open]
        return max(found) - monotonic() if found else None

    def closed_for(self, provider: str, account: str) -> float | None:
        """Seconds since this worker heard that it was closed again; None where it has never been open."""
        at = [
            self._closed_at[name]
            for name in (circuit_name(provider, account), whole(provider))
            if name in self._closed_at
        ]
        return monotonic() - max(at) if at else None

    def count(self, provider: str, account: str, *, healthy: bool) -> None:
        """A call ended; told to Redis with others, and soon where it ended badly."""
        with self._lock:
            counts = self._counts[provider, account]
            counts.good += healthy
            counts.bad += not healthy
            now = counts.bad >= _AT_ONCE
        if now:
            self._say(provider, account, "")

    def tried(self, provider: str, account: str, *, healthy: bool) -> Circuit:
        """A try ended; answers what the circuit is now."""
        return self._say(provider, account, "well" if healthy else "badly")

    def refresh(self) -> None:
        """Tell what was counted, and learn which circuits are open."""
        for provider, account in list(self._counts):
            self._say(provider, account, "")
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zrange(OPEN, 0, -1, withscores=True)
            pipeline.zrange(FORCED, 0, -1, withscores=True)
            (seconds, micros), tripped, forced = pipeline.execute()
        now, here = seconds * 1000 + micros / 1000, monotonic()
        known = {name.decode(): here + max(0.0, until - now) / 1000 for name, until in tripped}
        known |= {name.decode(): here + (until - now) / 1000 for name, until in forced if until > now}
        for name in self._open.keys() | known.keys():
            self._note(name, known.get(name))

    def _say(self, provider: str, account: str, trial: str) -> Circuit:
        name = circuit_name(provider, account)
        with self._lock:
            counts = self._counts.pop((provider, account), _Counts())
        try:
            args: list[Any] = [name, whole(provider), counts.good, counts.bad, trial, *self._settings]
            state, left = self._script(keys=[circuit_key(name), OPEN, FORCED], args=args)
        except (RedisError, OSError):
            if trial != "ask":
                return CLOSED
            return Circuit(trial=True)  # nobody can say who tries; better some than none
        if state == b"try":
            return Circuit(trial=True)
        if state == b"closed":
            self._note(name, None)
            return CLOSED
        seconds = int(left) / 1000 or TRYING
        self._note(name, monotonic() + seconds)
        return Circuit(seconds)

    def _note(self, name: str, until: float | None) -> None:
        with self._lock:
            was_open = name in self._open
            if until is None:
                if self._open.pop(name, None) is not None:
                    self._closed_at[name] = monotonic()
            else:
                self._open[name] = until
        if was_open and until is None:
            logger.info("circuit %s is closed: it is asked again", name)
        elif until is not None and not was_open:
            logger.warning("circuit %s is open: it is not asked for %.1f s", name, until - monotonic())
