"""Connections that a server cannot hold for longer than an exchange may take.

The timeouts of ``requests`` bound single socket operations: a server that sends one byte a second never meets them.
Here every connect, handshake, send and read gets what is left until the exchange's deadline, if that is less. Name
resolution is exempt: the C library offers no timeout for it (``options timeout:`` in resolv.conf does).
"""

import http.client
import io
import math
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import certifi
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, ProxyError
from urllib3.util.ssl_ import create_urllib3_context

from tasks.http.messages import HttpRequest

#: What http.client allows.
_LONGEST_LINE = 65_536
_MOST_HEADERS = 100
#: The head of a request, whose lines are not empty.
_HEAD = re.compile(r"(?:[\t\x20-\x7e\x80-\xff]+\r\n)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds for one connect, one read and one attempt in all; bytes of the largest answer."""

    connect: float
    read: float
    total: float
    max_body: int


class _Current(threading.local):
    """The deadline of the exchange that this thread is in: an exchange never leaves its thread."""

    at: float = math.inf

    def left(self, at_most: float | None) -> float | None:
        """Seconds for the next socket operation; raises TimeoutError when there are none."""
        if self.at == math.inf:
            return at_most
        left = self.at - monotonic()
        if left <= 0:
            raise TimeoutError("the exchange took too long")
        return left if at_most is None else min(left, at_most)


_current = _Current()


class Deadline:
    """Bounds every socket operation of this thread in its block until ``at``, on the clock of ``time.monotonic``."""

    def __init__(self, at: float) -> None:
        self._at = at

    def __enter__(self) -> None:
        _current.at = self._at

    def __exit__(self, *_: object) -> None:
        _current.at = math.inf


def _set_timeout(sock: socket.socket, seconds: float | None) -> None:
    """Set a timeout that the socket does not have already: to set one is a system call."""
    if sock.gettimeout() != seconds:
        sock.settimeout(seconds)


class _BoundedReader(io.RawIOBase):
    """Reads from a socket, each time for no longer than is left. Closing it leaves the socket open."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # the stubs' WriteableBuffer cannot be imported at run time
        _set_timeout(self._sock, _current.left(self._timeout))
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)


class _BoundedResponse(http.client.HTTPResponse):
    """Status line, headers, chunks and body all come through the bounded reader.

    ``headers`` is a mapping of names in small letters, without the machinery of e-mails that http.client has for it,
    which takes a sixth of an exchange.
    """

    headers: dict[str, str]  # type: ignore[assignment]

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_BoundedReader(sock), *args, **kwargs)  # type: ignore[arg-type]  # all that it asks of one

    def begin(self) -> None:
        """Read up to the body."""
        while True:
            version, status, reason = self._read_status()
            headers = self._read_headers()
            if status != http.client.CONTINUE:
                break
        if not version.startswith("HTTP/1."):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version == "HTTP/1.0" else 11
        self.code = self.status = status
        self.reason = reason.strip()
        self.headers = headers
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else _length(headers)
        if status in {http.client.NO_CONTENT, http.client.NOT_MODIFIED}:
            self.length = 0
        self.will_close = self._check_close() or (not self.chunked and self.length is None)  # type: ignore[attr-defined]

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        name = ""
        for _ in range(_MOST_HEADERS):
            line = self.fp.readline(_LONGEST_LINE + 1)
            if len(line) > _LONGEST_LINE:
                raise http.client.LineTooLong("header line")
            if line in {b"\r\n", b"\n", b""}:
                return headers
            text = line.decode("iso-8859-1").rstrip("\r\n")
            if text[:1] in {" ", "\t"}:  # a value that goes on, as it was allowed once
                if name:
                    headers[name] += " " + text.strip()
                continue
            name, colon, value = text.partition(":")
            name, value = name.strip().lower(), value.strip()
            if not colon:  # no header; what the others say still holds
                name = ""
                continue
            if name == "content-length" and headers.get(name, value) != value:
                raise http.client.HTTPException("two lengths")
            headers[name] = f"{headers[name]}, {value}" if name in headers and name != "content-length" else value
        raise http.client.HTTPException(f"more than {_MOST_HEADERS} headers")

    def whole(self, limit: int) -> bytes:
        """The body, or the beginning of one that is longer than ``limit``. Raises where it ends too early."""
        body = bytearray()
        while len(body) <= limit and (chunk := self.read(limit + 1 - len(body))):
            body += chunk
        if len(body) <= limit and self.length:
            raise http.client.IncompleteRead(bytes(body), self.length)
        return bytes(body)

    def _read_status(self) -> tuple[str, int, str]:
        # RFC 9110, 15.2: any 1xx comes before the answer. http.client takes all but 100 for the answer itself, and the
        # real one would be read by whoever has the connection next.
        version, status, reason = super()._read_status()  # type: ignore[misc]  # the stubs leave out what is private
        return version, http.HTTPStatus.CONTINUE if 100 <= status < 200 else status, reason

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]  # the stubs leave out what is private
        if size < 0:
            # http.client would read for as long as bytes come, past every limit.
            raise ValueError("a negative chunk size")
        return size


def _length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


class _Bounded(HTTPConnection):
    response_class = _BoundedResponse

    def exchange(
        self, request: HttpRequest, target: str, host: str, *, limits: Limits, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request, read the whole answer: status, headers with names in small letters, body.

        The connection is closed unless it may be used again. Written here and not left to http.client, urllib3 and
        requests, which share this work among them and take three times as long.
        """
        data = _head(request, target, host, headers) + (request.body or b"")
        kept = False
        try:
            if self.is_closed:
                self.timeout = limits.connect
                self.connect()
            sock = self.sock
            _set_timeout(sock, _current.left(limits.read))
            sock.sendall(data)
            _set_timeout(sock, limits.read)
            response = self.response_class(sock, method=request.method)
            try:
                response.begin()
                body = response.whole(limits.max_body)
                kept = response.isclosed() and not response.will_close
            finally:
                response.close()
        finally:
            if not kept:
                self.close()
        return response.status, response.headers, body

    def _new_conn(self) -> socket.socket:
        # urllib3's own tries each address of a host for the whole connect timeout.
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        failure: OSError = OSError("no address")
        for family, kind, protocol, _, address in addresses:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # a machine without IPv6 knows IPv6 addresses all the same
                failure = error
                continue
            try:
                sock.settimeout(_current.left(self.timeout))
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.connect(address)
                # The TLS handshake, if one follows, is bounded as a whole by the socket's timeout.
                sock.settimeout(_current.left(self.timeout))
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "connecting took too long") from failure
        raise NewConnectionError(self, "could not connect") from failure


def _head(request: HttpRequest, target: str, host: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if request.body is not None:
        lines.append(f"Content-Length: {len(request.body)}")
    head = "\r\n".join(lines) + "\r\n"
    # As many lines as were meant: nothing in one may end it early.
    if not _HEAD.fullmatch(head) or head.count("\r\n") != len(lines):
        raise ValueError("a request that cannot be written")
    return head.encode("iso-8859-1") + b"\r\n"


class _BoundedHTTPS(_Bounded, HTTPSConnection):
    def _tunnel(self) -> None:
        super()._tunnel()
        # The handshake through the tunnel has what the proxy left over.
        self.sock.settimeout(_current.left(self.timeout))


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _PoolHTTPS(HTTPSConnectionPool):
    ConnectionCls = _BoundedHTTPS


def _reach_proxy(pool: Any, connection: Any) -> None:
    """Connect to the proxy, and through it where the provider is behind TLS."""
    try:
        if pool.scheme == "https":
            pool._prepare_proxy(connection)  # noqa: SLF001 - as the pool does it
        else:
            connection.connect()
    except (OSError, HTTPError) as error:
        if connection.has_connected_to_proxy:
            raise
        raise ProxyError("cannot be used", error) from error


class BoundedAdapter(HTTPAdapter):
    """The adapter of ``requests`` with bounded connections and one TLS context for all of them.

    ``connections`` is how many idle connections are kept for each host; ``ca_file`` replaces certifi's authorities.
    """

    def __init__(self, connections: int, ca_file: str | None = None) -> None:
        # requests would have every new connection load the authorities anew, ten milliseconds each.
        self._context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        self._context.load_verify_locations(ca_file or certifi.where())
        self._places: dict[tuple[str, str], tuple[Any, str, str]] = {}
        super().__init__(pool_connections=16, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, ssl_context=self._context, **kwargs
        )
        self._bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
        self._bound(manager)
        return manager

    @staticmethod
    def _bound(manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolHTTPS}

    def exchange(
        self, request: HttpRequest, limits: Limits, headers: Mapping[str, str], proxies: dict[str, str] | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request on a connection of the pool for its host; see ``_Bounded.exchange``."""
        scheme, _, rest = request.url.partition("://")
        netloc, slash, path = rest.partition("/")
        place = self._places.get((scheme, netloc))
        if place is None:
            place = self._places[scheme, netloc] = self._place(f"{scheme}://{netloc}/", proxies)
        pool, host, before = place
        connection: Any = pool._get_conn()  # noqa: SLF001 - the pool's own way to lend one
        try:
            if pool.proxy is not None and connection.is_closed:
                connection.timeout = limits.connect
                _reach_proxy(pool, connection)
            answer: tuple[int, dict[str, str], bytes] = connection.exchange(
                request, f"{before}{slash or '/'}{path}", host, limits=limits, headers=headers
            )
            return answer
        finally:
            pool._put_conn(connection)  # noqa: SLF001 - and to have it back; one that is closed is opened again when used

    def _place(self, url: str, proxies: dict[str, str] | None) -> tuple[Any, str, str]:
        """The pool for a host, what its Host header says, and what stands before a path in a request."""
        prepared = PreparedRequest()
        prepared.prepare(method="GET", url=url)
        pool = self.get_connection_with_tls_context(prepared, True, proxies=proxies)
        target = self.request_url(prepared, proxies)
        return pool, urlsplit(prepared.url or url).netloc, target.removesuffix("/")

    def close(self) -> None:
        """Close the idle connections: urllib3 does it when nobody knows the pools any more."""
        self._places.clear()
        super().close()

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Verification is the context's, for every connection: there is nothing to add, and no way to switch it off."""
