"""The log: one line for each lookup that ended and each message that is tried again, as JSON or for a terminal.

Everybody here writes with the standard library's ``logging``. What a line may carry beside its
words is named in ``FIELDS``: Celery's own records carry a message's arguments.
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from celery.app import trace
from pythonjsonlogger.json import JsonFormatter

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
_NAMES: Final = {"levelname": "level", "name": "logger"}
_SHOWN: Final = frozenset({*FIELDS, *_NAMES, *_NAMES.values(), "message", "timestamp", "exc_info"})
#: Loggers, by the first part of their name, whose lines need not say whose they are on a terminal.
_OURS: Final = frozenset({"lookup", "tasks", "celery", "root"})
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
#: What Celery says of a task's end: our own line says it better.
_REPEATED: Final = frozenset({trace.LOG_SUCCESS, trace.LOG_RETRY, trace.LOG_IGNORED})


def tame() -> None:
    """Keep third parties from writing secrets into the log, also where its level is DEBUG, and pages into an outage."""
    for name, level in _TAMED.items():
        logging.getLogger(name).setLevel(level)
    # Celery says at each reconnection what the default of a setting may be some day, which is set here.
    logging.getLogger("py.warnings").addFilter(lambda record: "CPendingDeprecation" not in record.getMessage())
    logging.getLogger("celery.app.trace").addFilter(lambda record: record.msg not in _REPEATED)


Format = Literal["json", "console"]


class _Json(JsonFormatter):
    """One object on a line: the words first, then the rest."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(
            ["message", "levelname", "name"], json_ensure_ascii=False, timestamp=True, rename_fields=_NAMES
        )
        self._redactor = redactor

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        for name in log_data.keys() - _SHOWN:
            del log_data[name]

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(super().format(record))


class _Console(logging.Formatter):
    """For people: the time, what happened and to what, in a line that mostly fits 80 columns."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")
        self._redactor = redactor

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        origin = record.name.partition(".")[0]
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        words = _ended(record.__dict__) if "status" in record.__dict__ else record.message
        whence = "" if origin in _OURS else f"{origin}: "
        task_id = record.__dict__.get("task_id") if "again_in" in record.__dict__ else None
        return f"{record.asctime} {level}{whence}{words}{f' [{task_id[:8]}]' if task_id else ''}"

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(super().format(record))


def _ended(fields: Mapping[str, Any]) -> str:
    """How a lookup ended: ``failed    opay bulk order-2: unavailable 90, 4 attempts, 1.9 s``."""
    account = "" if fields["account"] == "default" else f"{fields['account']} "
    why = " ".join(fields[name] for name in ("category", "code") if fields.get(name))
    tried = "" if fields["attempts"] == 1 else f", {fields['attempts']} attempts"
    # A task's id is shown by what it begins with, as in the line of a retry.
    lookup_id = fields["lookup_id"].replace(fields["task_id"], f"{fields['task_id'][:8]}…")
    of = f"{fields['provider']} {account}{fields['lane']} {lookup_id}"
    return f"{fields['status']:<9} {of}{f': {why}' if why else ''}{tried}, {fields['total_seconds']:.3g} s"


def begin(form: Format | None, redactor: Redactor) -> None:
    """Write our lines to standard error until Celery sets up its log, which replaces what this does."""
    handler = logging.StreamHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    render([root], form, redactor)


def render(loggers: Iterable[logging.Logger], form: Format | None, redactor: Redactor) -> None:
    """Let the handlers that Celery gave these loggers write our lines. ``form`` None: as suits standard error."""
    console = form == "console" or (form is None and sys.stderr.isatty())
    for logger in loggers:
        for handler in logger.handlers:
            handler.setFormatter(_Console(redactor) if console else _Json(redactor))
