"""Saying why no result comes to a bulk run."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cardtoken.cli.context import Context

if TYPE_CHECKING:
    from redis import Redis

#: Seconds without a result after which the operator should know why, and after which the same is said again.
_QUIET: Final = 15.0
_SAID_AGAIN: Final = 150.0


class Silence:
    """How long no result has come, and the hint why, which is said when it is long."""

    def __init__(self, context: Context, redis: "Redis", queues: Sequence[str]) -> None:
        self._context = context
        self._redis = redis
        self._queues = queues
        self._heard = time.monotonic()
        self._hint, self._hinted_at = "", float("-inf")

    def end(self) -> None:
        """Note that a result came."""
        self._heard = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds since the last result, or since the beginning."""
        return time.monotonic() - self._heard

    def say_why(self) -> None:
        """Say why no result comes, if none has come for a while and that was not said just now."""
        from redis import RedisError

        from cardtoken.cli.whereabouts import why_quiet

        now = time.monotonic()
        if self.seconds < _QUIET or now - self._hinted_at < _QUIET:
            return
        try:
            why = why_quiet(self._redis, self._queues)
        except RedisError:
            return  # the calls of the run report that
        kind = why.partition(" ")[0]
        if kind != self._hint or now - self._hinted_at > _SAID_AGAIN:
            self._hint, self._hinted_at = kind, now
            self._context.errors.print(f"No result for {self.seconds:.0f} s. {why}", markup=False)
