"""Waiting for a Redis that is away, or refuses for a reason that may pass."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cardtoken.cli.context import Context
from cardtoken.steps import BACKOFF

if TYPE_CHECKING:
    from redis import RedisError

#: The cause where there is no answer at all.
_AWAY: Final = "away"


class RedisWait:
    """Says once that a command waits for Redis, and why, whichever call fails; and once that Redis answers again."""

    def __init__(self, context: Context, stop: threading.Event) -> None:
        self._context = context
        self._stop = stop
        self._lock = threading.Lock()
        #: The calls that failed and have not succeeded since, and the causes that were said meanwhile.
        self._doing: set[str] = set()
        self._causes: set[str] = set()
        #: Call → its next pauses.
        self._pauses: dict[str, Iterator[float]] = {}

    def wait_or_raise(self, doing: str, error: "RedisError") -> None:
        """Wait for a moment, a second at most, or until the command stops; raise an error that waiting does not end."""
        from cardtoken.refusals import code_of, is_away, is_worth_waiting, text_of

        if not is_worth_waiting(error):
            raise error
        self.say(doing, _AWAY if is_away(error) else code_of(error), text_of(error) or type(error).__name__)
        self._stop.wait(next(self._pauses.setdefault(doing, BACKOFF.pauses())))

    def say(self, doing: str, cause: str, why: str) -> None:
        """Note that a call failed. A connection that is cut is often followed by an error that says more."""
        with self._lock:
            is_new = cause not in self._causes
            self._doing.add(doing)
            self._causes.add(cause)
        if is_new:
            self._context.errors.print(
                f"Waiting for Redis: {why}. It goes on by itself; Ctrl-C ends it, and the same command goes on later.",
                markup=False,
            )

    def over(self, doing: str) -> None:
        """Note that a call succeeded."""
        if doing not in self._doing:
            return
        self._pauses.pop(doing, None)
        with self._lock:
            self._doing.discard(doing)
            is_last = not self._doing
            if is_last:
                self._causes.clear()
        if is_last:
            self._context.errors.print("Redis answers again.")

    @contextlib.contextmanager
    def for_the_client(self) -> Iterator[None]:
        """Take what the client logs of its waiting, which would spoil the bar."""
        logger, handler = logging.getLogger("cardtoken.consumer"), _Handler(self)
        propagates, level = logger.propagate, logger.level
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagates
            logger.setLevel(level)


class _Handler(logging.Handler):
    def __init__(self, wait: RedisWait) -> None:
        super().__init__(logging.INFO)
        self._wait = wait

    def emit(self, record: logging.LogRecord) -> None:
        trouble = next((each for each in record.args or () if isinstance(each, Exception)), None)
        if trouble is not None:
            self._wait.say("reading", getattr(trouble, "code", _AWAY), str(trouble))
        elif record.levelno == logging.INFO:
            self._wait.over("reading")
