"""The log: one line for each lookup that ended and each message that is tried again, as JSON or for a terminal.

Everybody here writes with the standard library's ``logging``; structlog renders. What a line may carry beside its
words is named in ``FIELDS``: Celery's own records carry a message's arguments.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any, Final, Literal

import structlog
from celery.app import trace
from redis import RedisError

from tasks.telemetry.redaction import Redactor

#: Keys of ``extra`` that are shown.
FIELDS: Final = (
    "provider",
    "account",
    "lane",
    "status",
    "category",
    "code",
    "attempts",
    "call_seconds",
    "total_seconds",
    "lookup_id",
    "task_id",
    "again_in",
    "lookups",
)
#: logger → the least severe level it may speak at. Below it, each of these has a message with a URL and its query, a
#: message's arguments, or a body in it; Celery's strategy has a line for each message that comes.
_TAMED: Final = {
    "urllib3": logging.ERROR,
    "requests": logging.WARNING,
    "celery.pool": logging.INFO,
    "celery.worker.consumer": logging.INFO,
    "celery.worker.strategy": logging.WARNING,
    "kombu": logging.INFO,
    "sentry_sdk": logging.WARNING,
    "tornado.access": logging.WARNING,
}
#: Loggers that add a page of traceback to the news that a connection is lost.
_LONGWINDED: Final = ("celery.worker.consumer.consumer", "celery.bootsteps")
#: What Celery says of a task's end: our own line says it better.
_REPEATED: Final = frozenset({trace.LOG_SUCCESS, trace.LOG_RETRY, trace.LOG_IGNORED})


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    while error is not None:
        if isinstance(error, RedisError | OSError):
            record.exc_info, record.exc_text = None, None
            break
        error = error.__context__
    return True


def tame() -> None:
    """Keep third parties from writing secrets into the log, also where its level is DEBUG, and pages into an outage."""
    for name, level in _TAMED.items():
        logging.getLogger(name).setLevel(level)
    for name in _LONGWINDED:
        logging.getLogger(name).addFilter(_without_traceback)
    logging.getLogger("celery.app.trace").addFilter(lambda record: record.msg not in _REPEATED)


Format = Literal["json", "console"]


class Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders every record, whoever wrote it, and cuts configured secrets out of the line."""

    def __init__(self, form: Format | None, redactor: Redactor) -> None:
        self._redactor = redactor
        on_a_terminal = sys.stderr.isatty()
        render: tuple[Any, ...]
        if form == "console" or (form is None and on_a_terminal):
            # Not the one with local variables.
            plain = structlog.dev.plain_traceback
            time = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
            render = (structlog.dev.ConsoleRenderer(colors=on_a_terminal, exception_formatter=plain),)
        else:
            time = structlog.processors.TimeStamper(fmt="iso", utc=True)
            render = (
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(ensure_ascii=False),
            )
        super().__init__(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(allow=FIELDS),
                time,
            ],
            processors=[self.remove_processors_meta, *render],
        )

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(super().format(record))


def render(loggers: Iterable[logging.Logger], form: Format | None, redactor: Redactor) -> None:
    """Let the handlers that Celery gave these loggers write our lines. ``form`` None: as suits standard error."""
    for logger in loggers:
        for handler in logger.handlers:
            handler.setFormatter(Formatter(form, redactor))
