"""The HTTP server of the probes: one thread, which starts no other and waits for no client.

It answers while no thread can be started and no descriptor is left, and while other clients send nothing.
"""

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url

from cardtoken.error_description import describe_error

logger = logging.getLogger(__name__)

#: From a path to status and JSON; None: there is no such path.
Answer = Callable[[str], tuple[HTTPStatus, bytes] | None]

#: Bytes of a request, and seconds that a client may take for it.
_LONGEST: Final = 8192
_PATIENCE: Final = 5.0
#: Connections at once; for one more the oldest is closed.
_MOST: Final = 64
#: Connections that are taken on before others are looked at.
_AT_ONCE: Final = 32
#: Descriptors that are kept for the time when there are no others.
_SPARE: Final = 4
#: Seconds between two ticks, and after an error that is not to fill the processor.
_TICK: Final = 0.5
_PAUSE: Final = 0.1


@dataclass(slots=True)
class _Client:
    """One connection."""

    sock: socket.socket
    until: float
    received: int = 0
    target: bytes = b""
    method: bytes = b""
    complete: bool = False
    answered: bool = False
    parser: Any = field(init=False)

    def __post_init__(self) -> None:
        self.parser = HttpRequestParser(self)

    def on_url(self, part: bytes) -> None:
        """Called by the parser."""
        if not self.complete:  # another request may follow in the same breath
            self.target += part

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if not self.complete:
            self.complete, self.method = True, self.parser.get_method()


class ProbeServer:
    """Answers GET and HEAD with what ``answer`` returns. ``tick`` is called every half second at least."""

    def __init__(self, answer: Answer, tick: Callable[[], None]) -> None:
        self._answer = answer
        self._tick = tick
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        #: By descriptor, the oldest first.
        self._clients: dict[int, _Client] = {}
        self._spare: list[int] = []
        self._failed = False

    def start(self, host: str, port: int) -> int:
        """Listen there, and serve in a thread; return the port. Raises ``OSError`` where that cannot be had."""
        self._listener = _listener(host, port)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._keep_spare()
        threading.Thread(target=self._serve, name="health", daemon=True).start()
        return int(self._listener.getsockname()[1])

    def _serve(self) -> None:
        while True:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - a server that ended would have the worker restarted
                if not self._failed:
                    logger.error("the probes: %s", describe_error(error))  # noqa: TRY400 - no text of an error
                self._failed = True
                time.sleep(_PAUSE)

    def _turn(self) -> None:
        events = self._selector.select(_TICK)
        self._tick()
        for key, _ in events:
            if key.fileobj is self._listener:
                self._accept(self._listener)
            elif (client := self._clients.get(key.fd)) is not None:
                self._receive(client)
        now = time.monotonic()
        for client in [each for each in self._clients.values() if each.until < now]:
            self._close(client)
        self._keep_spare()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError:  # no descriptor is left
                if not self._spare:
                    time.sleep(_PAUSE)
                    return
                os.close(self._spare.pop())
                continue
            sock.setblocking(False)
            if len(self._clients) >= _MOST:
                self._close(next(iter(self._clients.values())))
            client = self._clients[sock.fileno()] = _Client(sock, time.monotonic() + _PATIENCE)
            self._selector.register(sock, selectors.EVENT_READ)
            self._receive(client)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(client)
            return
        client.received += len(data)
        if client.answered:  # the rest of a request, which is read lest the answer be lost
            return
        try:
            client.parser.feed_data(data)
        except HttpParserUpgrade:
            pass
        except HttpParserError:
            self._send(client, HTTPStatus.BAD_REQUEST)
            return
        if client.complete:
            self._respond(client)
        elif client.received >= _LONGEST:
            self._send(client, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _respond(self, client: _Client) -> None:
        try:
            path = (parse_url(client.target).path or b"").decode("ascii")
        except (HttpParserError, UnicodeDecodeError):
            self._send(client, HTTPStatus.BAD_REQUEST)
            return
        found = self._answer(path)
        if found is None:
            self._send(client, HTTPStatus.NOT_FOUND)
        elif client.method not in (b"GET", b"HEAD"):
            self._send(client, HTTPStatus.METHOD_NOT_ALLOWED, more="Allow: GET, HEAD\r\n")
        else:
            self._send(client, *found)

    def _send(self, client: _Client, status: HTTPStatus, body: bytes | None = None, more: str = "") -> None:
        kind = "text/plain; charset=utf-8" if body is None else "application/json"
        body = f"{status.phrase}\n".encode() if body is None else body
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\n{more}Connection: close\r\n\r\n"
        )
        client.answered = True
        with suppress(OSError):
            client.sock.send(head.encode("ascii") + (b"" if client.method == b"HEAD" else body))
            client.sock.shutdown(socket.SHUT_WR)

    def _close(self, client: _Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        self._selector.unregister(client.sock)
        client.sock.close()

    def _keep_spare(self) -> None:
        with suppress(OSError):
            while len(self._spare) < _SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` stands for the addresses of both families.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(128)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
