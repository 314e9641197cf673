"""How a process of this service ends at once: on a signal that comes before it is ready, or as a last resort.

Process 1 of a container has no default action for signals: without a handler SIGTERM does nothing. Celery installs its
handlers late, and obeys them only between two steps of its event loop, none of which comes while a worker waits for
Redis. Importing this module does nothing.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

#: The signals that ask a worker to stop. Flower itself handles Ctrl-C well from the start.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGINT)
#: Signal number → its handler before this module took it over.
_before: dict[int, Any] = {}
#: The path of the worker's pidfile, once the command line is read. :func:`leave` removes the file.
pidfile: str | None = None


def program() -> str:
    """Return which long-running program of Celery's command line this process is: worker, flower or none."""
    if Path(sys.argv[0]).name not in ("celery", "__main__.py"):
        return ""
    return next((each for each in sys.argv[1:] if each in ("worker", "flower")), "")


def take_signals() -> None:
    """Let a signal end this process at once, with status 0, until :func:`hand_over`. Ignored signals stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS[:3] if program() == "flower" else _SIGNALS:
        found = signal.getsignal(number)
        if found is not signal.SIG_IGN and found is not _on_signal:
            _before[number] = found
            signal.signal(number, _on_signal)


def hand_over() -> None:
    """Restore the handlers that :func:`take_signals` found last."""
    for number, handler in _before.items():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, handler)


def _on_signal(_: int, __: FrameType | None) -> None:
    leave()


def leave(status: int = 0) -> None:
    """End this process now. Messages that it still holds wait in Redis for their leases to run out."""
    with suppress(OSError, ValueError):
        if pidfile and int(Path(pidfile).read_text(encoding="utf-8")) == os.getpid():
            Path(pidfile).unlink()
    os._exit(status)
