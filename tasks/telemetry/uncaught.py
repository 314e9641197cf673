"""Unexpected errors, wherever they are written: by their type and place, and never with their text."""

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from celery.exceptions import ImproperlyConfigured
from kombu.exceptions import OperationalError
from redis import RedisError

from cardtoken.error_description import describe_error, describe_stack

logger = logging.getLogger(__name__)

#: Errors whose own words are of connections, hosts and keys in Redis, and of nothing that a message holds.
_SPEAKING: Final = (RedisError, OSError, OperationalError, ImproperlyConfigured)
#: Loggers that add a page of stack to the news that a connection is lost.
_LONGWINDED: Final = frozenset({"celery.worker.consumer.consumer", "celery.bootsteps"})


class _Record(logging.LogRecord):
    """A line that holds no such error, but its description. Made here, as handlers are not all that see records."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.msg = _described(self.msg)
        if isinstance(self.args, Mapping):
            self.args = {name: _described(value) for name, value in self.args.items()}
        elif self.args:
            self.args = tuple(_described(value) for value in self.args)
        error = self.exc_info[1] if self.exc_info else None
        if error is not None:
            brief = self.name in _LONGWINDED and any(isinstance(each, RedisError | OSError) for each in _chain(error))
            self.exc_info, self.exc_text = None, None if brief else describe_stack(error)


class _Description(str):
    """An error's description, also where a line wants its repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _described(value: Any) -> Any:
    if isinstance(value, BaseException) and not isinstance(value, _SPEAKING):
        return _Description(describe_error(value))
    return value


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__context__


def _uncaught(where: str, error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        logger.critical("%s ended in %s", where, describe_error(error))


def describe_all_errors() -> None:
    """Let no log line, no thread and no process that ends write an error's text; a library's neither."""
    logging.setLogRecordFactory(_Record)
    logging.raiseExceptions = False  # a line that cannot be written would be printed with its arguments
    sys.excepthook = lambda _, error, __: _uncaught("the process", error)
    sys.unraisablehook = lambda found: _uncaught("something that nothing waits for", found.exc_value)
    threading.excepthook = lambda found: _uncaught(
        f"thread {found.thread.name if found.thread else '?'}", found.exc_value
    )
