"""Loggers of others that would say too much."""

import logging

from redis import RedisError

#: logger → the least severe level it may speak at. Below it, each of these has a message with a URL and its query, a
#: message's arguments, or a body in it.
_TAMED = {
    "urllib3": logging.ERROR,
    "requests": logging.WARNING,
    "celery.pool": logging.INFO,
    "celery.worker.consumer": logging.INFO,
    "kombu": logging.INFO,
}
#: Loggers that add a page of traceback to the news that a connection is lost.
_LONGWINDED = ("celery.worker.consumer.consumer", "celery.bootsteps")


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
