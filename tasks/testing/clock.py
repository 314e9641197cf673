"""A clock that a test moves."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

_BEGIN: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)


class FakeClock:
    """The time of day and the monotonic clock, which move together and only by ``advance``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed = 0.0

    def now(self) -> datetime:
        """Return the time of day."""
        return _BEGIN + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        with self._lock:
            self._passed += seconds
