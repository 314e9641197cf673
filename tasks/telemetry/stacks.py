"""SIGUSR1: where each thread is, for an operator who looks at a process that hangs, and none of the values in it."""

import faulthandler
import io
import signal
from typing import Any


def show_on_signal() -> None:
    """Write every thread's stack to standard error on SIGUSR1, from now on; without one, ignore that signal.

    Python writes it even while the process hangs: files, lines and functions.
    """
    try:
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    except (AttributeError, RuntimeError, ValueError, OSError, io.UnsupportedOperation):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def keep_celery_from_showing_variables() -> None:
    """Take the handlers away by which Celery's worker writes all local variables, or lets a debugger in."""
    from celery.apps import worker

    handlers: Any = worker
    handlers.install_cry_handler = show_on_signal  # SIGUSR1: variables of each frame
    handlers.install_rdb_handler = lambda: None  # SIGUSR2, where CELERY_RDBSIG is set
