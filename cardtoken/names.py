"""Host names, looked up for so long and no longer: the system's own lookup can take a minute."""

import socket
import threading
from concurrent.futures import Future
from typing import Any, Final

#: What ``socket.getaddrinfo`` returns.
Addresses = list[tuple[Any, ...]]

_lock: Final = threading.Lock()
#: Lookups under way. One that hangs is waited for by all who ask the same, so that threads do not pile up.
_pending: Final[dict[tuple[str, int], "Future[Addresses]"]] = {}


def resolve(host: str, port: int, timeout: float) -> Addresses:
    """Return a host's addresses for TCP, as ``socket.getaddrinfo`` does.

    Raises OSError for a name that is unknown, and TimeoutError where that is not known after ``timeout`` seconds.
    """
    try:
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    with _lock:
        pending = _pending.get((host, port))
        if pending is None:
            pending = _pending[host, port] = Future()
            threading.Thread(target=_look_up, args=(host, port, pending), name="resolver", daemon=True).start()
    try:
        return pending.result(timeout)
    except TimeoutError:
        raise TimeoutError(f"the name {host} is not resolved after {timeout:g} s") from None


def _look_up(host: str, port: int, pending: "Future[Addresses]") -> None:
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        outcome: Addresses | BaseException = (
            error if isinstance(error, OSError) else OSError(f"{host} is not a host name")
        )
    else:
        outcome = found
    with _lock:
        del _pending[host, port]
    if isinstance(outcome, BaseException):
        pending.set_exception(outcome)
    else:
        pending.set_result(outcome)
