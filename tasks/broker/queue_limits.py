"""How many messages of each queue a worker may have in hand, where that is fewer than it has room for."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Seconds in which the number doubles while no message shows that it is too large.
_STEP: Final = 0.5
#: More than any worker has room for: the limit ends.
_ENOUGH: Final = 2048


@dataclass(slots=True)
class _Limit:
    messages: int
    since: float
    #: Before this, none is taken.
    until: float


class QueueLimits:
    """Limits by queue; every method may be called from any thread.

    ``shut`` returns, for a queue whose provider cannot be called at all, the seconds until a call may be tried (0 or
    less: now), and None for any other queue. Such a queue stays untouched in Redis; when it is time, one message is
    taken as a trial. Once calls are allowed again, or after ``back_off``, one or half as many messages as before are
    taken at first, then twice as many every half second, until the limit ends.
    """

    def __init__(
        self,
        shut: Callable[[str], float | None] = lambda _: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shut = shut
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._limits: dict[str, _Limit] = {}

    def allowance(self, queue: str) -> int | None:
        """Return how many messages of the queue may be in hand; None for any number."""
        left, now = self.shut(queue), self._monotonic()
        with self._lock:
            if left is not None:
                self._limits[queue] = _Limit(1, now, 0)
                return 0 if left > 0 else 1
            limit = self._limits.get(queue)
            if limit is None:
                return None
            if now < limit.until:
                return 0
            steps = int((now - limit.since) / _STEP)
            if steps:
                limit.messages <<= min(steps, 12)
                limit.since = now
            if limit.messages >= _ENOUGH:
                del self._limits[queue]
                return None
            return limit.messages

    def back_off(self, queue: str, seconds: float, in_hand: int) -> None:
        """Claim none of this queue for ``seconds`` (at most one), and then half as many as are in hand."""
        now = self._monotonic()
        with self._lock:
            limit = self._limits.get(queue)
            if limit is not None and now < limit.until:
                return  # another message that came with it has done this
            until = now + min(seconds, 1.0)
            self._limits[queue] = _Limit(max(1, in_hand // 2), until, until)
