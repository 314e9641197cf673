"""The time of day by the clock of Redis, which a fleet has in common, and not by the clocks of its hosts.

Between two measurements it is kept by a clock of this machine that never jumps.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from redis import Redis

from cardtoken.presence import LARGEST_CLOCK_OFFSET_SECONDS
from tasks.telemetry import metrics

logger = logging.getLogger(__name__)

#: By how much two clocks may drift apart, in seconds a second.
_DRIFT: Final = 0.0002
#: Seconds by which Redis' clock may be corrected without a word.
_UNNOTICED: Final = 1.0


class Clock(Protocol):
    """Knows the time; ``RedisClock`` is the one that workers have."""

    def now(self) -> datetime: ...


def uptime() -> float:
    """Return the seconds on a clock that never jumps; where the machine sleeps it goes on, on Linux at least."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Redis' time was ``ahead`` seconds more than the uptime ``at`` some moment, give or take ``error``."""

    ahead: float
    error: float
    at: float


class RedisClock:
    """Redis' clock, as this worker knows it. Every method may be called from any thread.

    ``wall`` is this host's own clock, in seconds since 1970. It serves until the first measurement, and never again.
    """

    def __init__(
        self, redis: Redis, *, uptime: Callable[[], float] = uptime, wall: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._uptime = uptime
        self._wall = wall
        self._lock = threading.Lock()
        self._ahead = wall() - uptime()
        self._measured: _Measured | None = None
        self._offset: float | None = None
        self._warned = False

    def now(self) -> datetime:
        """Return the moment that Redis' clock shows."""
        return datetime.fromtimestamp(self._ahead + self._uptime(), UTC)

    @property
    def offset(self) -> float | None:
        """Seconds by which this host's clock is ahead of Redis'; None before the first measurement."""
        return self._offset

    def measure(self) -> None:
        """Ask Redis for its time, in one round trip. Raises ``redis.RedisError``.

        Redis' reply is from some moment of the round trip, so the quickest round trip tells most. One that contradicts
        what is known means that Redis' clock was set, or that another server has taken over.
        """
        asked = self._uptime()
        reply: Any = self._redis.time()
        answered, wall = self._uptime(), self._wall()
        error = (answered - asked) / 2
        found = _Measured(reply[0] + reply[1] / 1e6 - (asked + answered) / 2, error, answered)
        with self._lock:
            known = self._measured or found
            doubt = known.error + (answered - known.at) * _DRIFT
            jump = found.ahead - known.ahead
            best = found if abs(jump) > doubt + error or error <= doubt else known
            self._measured = best
            self._ahead = best.ahead
            self._offset = offset = wall - answered - best.ahead
        if abs(jump) > doubt + error + _UNNOTICED:
            logger.warning("Redis' clock was set %s by %.1f s", "forward" if jump > 0 else "back", abs(jump))
        metrics.CLOCK_OFFSET_SECONDS.set(offset)
        self._warn(offset)

    def _warn(self, offset: float) -> None:
        apart = abs(offset) >= LARGEST_CLOCK_OFFSET_SECONDS
        if apart and not self._warned:
            logger.warning(
                "this host's clock is %.1f s %s Redis': deadlines are judged by Redis' clock; set this one, by NTP",
                abs(offset),
                "ahead of" if offset > 0 else "behind",
            )
        elif self._warned and not apart:
            logger.info("this host's clock is right again, by Redis'")
        self._warned = apart
