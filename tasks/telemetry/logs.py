"""Loggers of others that would say too much."""

import logging

#: logger → the least severe level it may speak at. Below it, each of these has a message with a URL and its query, a
#: message's arguments, or a body in it.
_TAMED = {
    "urllib3": logging.ERROR,
    "requests": logging.WARNING,
    "celery.pool": logging.INFO,
    "celery.worker.consumer": logging.INFO,
    "kombu": logging.INFO,
}


def tame() -> None:
    """Keep third parties from writing secrets into the log, also where the log level is DEBUG."""
    for name, level in _TAMED.items():
        logging.getLogger(name).setLevel(level)
