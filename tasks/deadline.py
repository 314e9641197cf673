"""Connections that a server cannot hold for longer than an exchange may take.

The timeouts of ``requests`` bound single socket operations: a server that sends one byte a second never meets them.
Here every connect, handshake, send and read gets what is left until the exchange's deadline, if that is less. Name
resolution is exempt: the C library offers no timeout for it (``options timeout:`` in resolv.conf does).
"""

import http.client
import io
import math
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import certifi
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context


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


@contextmanager
def deadline(at: float) -> Iterator[None]:
    """Bound every socket operation of this thread until ``at``, on the clock of ``time.monotonic``."""
    _current.at = at
    try:
        yield
    finally:
        _current.at = math.inf


class _BoundedReader(io.RawIOBase):
    """Reads from a socket, each time for no longer than is left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # the stubs' WriteableBuffer cannot be imported at run time
        self._sock.settimeout(_current.left(self._timeout))
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    """Status line, headers, chunks and body all come through the bounded reader."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock))

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


class _Bounded(HTTPConnection):
    response_class = _BoundedResponse

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

    def request(self, *args: Any, **kwargs: Any) -> None:
        # A pooled connection comes with what was left to the exchange before this one.
        if self.sock is not None:
            self.sock.settimeout(_current.left(self.timeout))
        super().request(*args, **kwargs)


class _BoundedHTTPS(_Bounded, HTTPSConnection):
    def _tunnel(self) -> None:
        super()._tunnel()
        # The handshake through the tunnel has what the proxy left over.
        self.sock.settimeout(_current.left(self.timeout))


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _PoolHTTPS(HTTPSConnectionPool):
    ConnectionCls = _BoundedHTTPS


class BoundedAdapter(HTTPAdapter):
    """The adapter of ``requests`` with bounded connections and one TLS context for all of them.

    ``connections`` is how many idle connections are kept for each host; ``ca_file`` replaces certifi's authorities.
    """

    def __init__(self, connections: int, ca_file: str | None = None) -> None:
        # requests would have every new connection load the authorities anew, ten milliseconds each.
        self._context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        self._context.load_verify_locations(ca_file or certifi.where())
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

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Verification is the context's, for every connection: there is nothing to add, and no way to switch it off."""
