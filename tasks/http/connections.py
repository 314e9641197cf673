"""Connections that no server can hold for longer than an exchange may take, and that know when not to be believed.

The timeouts of ``requests`` bound single socket operations: a server that sends one byte a second never meets them.
Here every connect, handshake, send and read gets what is left until the exchange's deadline, if that is less. Name
resolution is exempt: the C library offers no timeout for it (``options timeout:`` in resolv.conf does).
"""

import contextlib
import errno
import http.client
import io
import math
import socket
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from threading import get_ident
from time import monotonic
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from tasks.http import deadline
from tasks.http.messages import Answered, HttpResponse
from tasks.http.reading import AnswerReader, NotHttpError

#: What a machine lacks of its own when it cannot so much as try: descriptors, memory, ports, a route, permission.
_LOCAL: Final = frozenset(
    {
        errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN,
        errno.ENETDOWN, errno.ENETUNREACH, errno.EPERM, errno.EACCES,
    }
)  # fmt: skip
#: Content codings, registered or once in use: they change a body. Other words that stand there do not.
_CODINGS: Final = frozenset(
    {
        "gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "dcb", "dcz",
        "bzip2", "x-bzip2", "xz", "exi", "pack200-gzip", "aes128gcm",
    }
)  # fmt: skip
_CHUNK = 65_536

#: Ids of the threads that wait for a name to be resolved.
resolving: Final[set[int]] = set()


def keepalive_options() -> list[tuple[int, int, int]]:
    """Return socket options by which the kernel notices within half a minute that the other end has gone."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    wanted = (
        # Seconds until the first probe, between two, and how many; then the milliseconds that sent data may stay
        # unacknowledged. TCP_KEEPALIVE is what macOS calls the first.
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPALIVE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 10_000),
    )
    options += [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in wanted if hasattr(socket, name)]
    return options


def is_local(error: BaseException) -> bool:
    """Return whether this machine could not make a call, which says nothing of the provider."""
    if isinstance(error, ssl.SSLError | socket.gaierror):  # whose numbers are other lists'
        return False
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LOCAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds for one connect, one read and one attempt in all, and without use; bytes of the largest answer."""

    connect: float
    read: float
    total: float
    max_body: int
    idle: float = 20.0


class StaleConnectionError(Exception):
    """A connection that had been used before brought no answer to this request: it may be asked again on another."""


class EarlyAnswerError(Exception):
    """A success came before the request for it was sent."""


class RefusedBodyError(Exception):
    """A success whose body is not read. Its text says why."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


class BoundedConnection(HTTPConnection):
    """``idle_since`` is when its latest answer ended (``time.monotonic``); ``answered`` is for ``HttpClient.send``."""

    _reader: AnswerReader
    _used = False
    idle_since = -math.inf
    answered: Answered

    def begin(self) -> None:
        """Get ready for the first request on a connection that has just been opened."""
        self._reader = AnswerReader()
        self._used = False
        self.answered = OrderedDict()

    def believable(self, idle: float, dead: float) -> bool:
        """Return whether an open connection may be used: not idle for ``idle`` seconds, nor since ``dead``.

        What it has received unasked is the answer to no request that is still to come. Whether the socket has any of
        that, urllib3 has looked; TLS may have some more.
        """
        if self.idle_since <= dead or monotonic() - self.idle_since >= idle:
            return False
        return not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending())

    def exchange(self, data: bytes, method: str, limits: Limits, patience: float) -> tuple[HttpResponse, float]:
        """Send a request, read the whole answer; return it and the seconds until it began.

        ``patience`` is how many seconds the first byte may take. The connection is closed unless it may be used again.
        """
        reader = self._reader
        reader.expect(method, limits.max_body)
        kept = early = False
        began = first = monotonic()
        try:
            try:
                early = not self._used and self._hear(limits)
                if not early:
                    self._ask(data, limits, patience)
                first = monotonic()
                while not (reader.complete or reader.large):
                    deadline.bound(self.sock, limits.read)
                    self._take(self.sock.recv(_CHUNK))
            except (NotHttpError, http.client.HTTPException, OSError):
                # The status of an answer that is no success is all that is needed of it.
                if _is_success(reader.status):
                    raise
                return reader.answer(body=False), first - began
            if self._used and reader.status == http.client.REQUEST_TIMEOUT and not reader.keep:
                # RFC 9110, 15.5.9: how a server says that it is about to close a connection that was idle.
                raise StaleConnectionError
            response = self._checked(limits, early=early)
            if kept := reader.keep and not early:
                self._used, self.idle_since = True, monotonic()
            return response, first - began
        finally:
            if not kept:
                self.close()

    def _hear(self, limits: Limits) -> bool:
        """Take what a server says before it is asked, as one that is overloaded may; return whether it does."""
        received = b""
        self.sock.settimeout(0)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            received = self.sock.recv(_CHUNK)
        deadline.bound(self.sock, limits.read)
        if received:
            self._reader.feed(received)
        return bool(received)

    def _ask(self, data: bytes, limits: Limits, patience: float) -> None:
        """Send a request and wait for the beginning of an answer. Raises StaleConnectionError."""
        try:
            deadline.bound(self.sock, limits.read)
            self.sock.sendall(data)
            deadline.bound(self.sock, patience)
            self._take(self.sock.recv(_CHUNK))
        except (NotHttpError, OSError) as error:
            # What has come of an answer is the provider's word; a deadline that has passed says nothing.
            if self._used and self._reader.status is None and not is_local(error) and not deadline.passed():
                raise StaleConnectionError from error
            raise

    def _take(self, received: bytes) -> None:
        if received:
            self._reader.feed(received)
        else:
            self._reader.end()

    def _checked(self, limits: Limits, *, early: bool) -> HttpResponse:
        reader = self._reader
        success = _is_success(reader.status)
        if early and success:
            raise EarlyAnswerError
        if reader.large:
            words = f"the answer is larger than {limits.max_body} bytes"
        elif _is_coded(reader.headers.get("content-encoding", "")):
            words = "the answer is compressed, which was not asked for"
        else:
            return reader.answer()
        if success:
            raise RefusedBodyError(words, reader.status or 0)
        return reader.answer(body=False)

    def _new_conn(self) -> socket.socket:
        # urllib3's own tries each address of a host for the whole connect timeout.
        thread = get_ident()
        resolving.add(thread)
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            # It looks the same where there is no descriptor to ask with.
            with socket.socket():
                pass
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        finally:
            resolving.discard(thread)
        failure: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            try:
                return self._connected(family, kind, protocol, address)
            except OSError as error:
                # A machine without IPv6 cannot reach the IPv6 addresses: what the others come to says more.
                if failure is None or not is_local(error):
                    failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "connecting took too long") from failure
        raise NewConnectionError(self, "could not connect") from failure

    def _connected(self, family: int, kind: int, protocol: int, address: Any) -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left(self.timeout))
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.connect(address)
            # The TLS handshake, if one follows, is bounded as a whole by the socket's timeout.
            sock.settimeout(deadline.left(self.timeout))
        except OSError:
            sock.close()
            raise
        return sock


class _BoundedReader(io.RawIOBase):
    """Reads from a socket, each time for no longer than is left. Closing it leaves the socket open."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # the stubs' WriteableBuffer cannot be imported at run time
        deadline.bound(self._sock, self._timeout)
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)


class _TunnelResponse(http.client.HTTPResponse):
    """What a proxy answers to CONNECT."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_BoundedReader(sock), *args, **kwargs)  # type: ignore[arg-type]  # all that it asks of one


class BoundedTlsConnection(BoundedConnection, HTTPSConnection):
    """The same over TLS."""

    response_class = _TunnelResponse

    def _tunnel(self) -> None:
        super()._tunnel()
        # The handshake through the tunnel has what the proxy left over.
        self.sock.settimeout(deadline.left(self.timeout))


def _is_success(status: int | None) -> bool:
    """Return whether an answer's body matters: where the status is not known, too."""
    return status is None or 200 <= status < 300


def _is_coded(content_encoding: str) -> bool:
    """Return whether a body is coded: ``identity``, ``utf-8`` and the like are words that change no byte of it."""
    return bool(content_encoding) and not _CODINGS.isdisjoint(
        word.strip().lower() for word in content_encoding.split(",")
    )
