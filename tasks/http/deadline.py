"""The moment at which an exchange has to be over, for all that its thread does with sockets."""

import math
import socket
import threading
from time import monotonic


class _Current(threading.local):
    """The deadline of the exchange that this thread is in: an exchange never leaves its thread."""

    at: float = math.inf


_current = _Current()


class Deadline:
    """Bounds every socket operation of this thread in its block until ``at``, on the clock of ``time.monotonic``."""

    def __init__(self, at: float) -> None:
        self._at = at

    def __enter__(self) -> None:
        _current.at = self._at

    def __exit__(self, *_: object) -> None:
        _current.at = math.inf


def passed() -> bool:
    """Return whether no time is left."""
    return monotonic() >= _current.at


def left(at_most: float | None) -> float | None:
    """Return the seconds for the next socket operation; raises TimeoutError when there are none."""
    if _current.at == math.inf:
        return at_most
    seconds = _current.at - monotonic()
    if seconds <= 0:
        raise TimeoutError("the exchange took too long")
    return seconds if at_most is None else min(seconds, at_most)


def bound(sock: socket.socket, at_most: float | None) -> None:
    """Give a socket's next operation what is left, ``at_most`` so many seconds."""
    seconds = left(at_most)
    # To set a timeout is a system call.
    if sock.gettimeout() != seconds:
        sock.settimeout(seconds)
