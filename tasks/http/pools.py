"""The connections to each host: which is used, when one is found dead, and when another is tried."""

import math
import re
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.exceptions import HTTPError, ProxyError
from urllib3.util.ssl_ import create_urllib3_context

from tasks.http.connections import (
    BoundedConnection,
    BoundedTlsConnection,
    Limits,
    StaleConnectionError,
    keepalive_options,
)
from tasks.http.messages import Again, Believed, HttpRequest, HttpResponse

#: Seconds without use after which a connection may have been forgotten by something on its way.
_MOMENT: Final = 1.0
#: Such a connection has so many times as long for its first byte as the slowest of the latest answers took.
_PATIENCE = 3
#: What is left of the slowest answer with each that comes after it.
_FADING = 0.95
#: The head of a request, whose lines are not empty.
_HEAD = re.compile(r"(?:[\t\x20-\x7e\x80-\xff]+\r\n)+")


class _Host:
    """What is known of the connections to one host."""

    def __init__(self, pool: Any, name: str, before: str) -> None:
        self.pool = pool
        #: What its Host header says, and what stands before a path in a request.
        self.name = name
        self.before = before
        #: Connections that have been idle since this moment or longer are dead.
        self.dead = -math.inf
        self._slowest = 0.0

    def written(self, request: HttpRequest) -> bytes:
        """Return a request's bytes. Raises ValueError where it cannot be written."""
        _, _, rest = request.url.partition("://")
        _, slash, path = rest.partition("/")
        lines = [f"{request.method} {self.before}{slash or '/'}{path} HTTP/1.1", f"Host: {self.name}"]
        headers = {"User-Agent": "cardtoken", **request.headers, "Accept-Encoding": "identity"}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if request.body is not None:
            lines.append(f"Content-Length: {len(request.body)}")
        head = "\r\n".join(lines) + "\r\n"
        # As many lines as were meant: nothing in one may end it early.
        if not _HEAD.fullmatch(head) or head.count("\r\n") != len(lines):
            raise ValueError("a request that cannot be written")
        return head.encode("iso-8859-1") + b"\r\n" + (request.body or b"")

    def patience(self, connection: BoundedConnection, limits: Limits) -> float:
        """Return how many seconds the first byte may take on a connection that has been used before.

        A connection that was forgotten is as silent as a provider that is slow. One that was idle gets less time, and
        then the request goes out again on a new one; but what a provider needs when it is slow it gets in any case, so
        that it is not asked twice for being slow.
        """
        if monotonic() - connection.idle_since < _MOMENT:
            return limits.read
        return min(limits.read, max(_MOMENT, _PATIENCE * self._slowest))

    def answered(self, seconds: float) -> None:
        """An answer began after so many seconds."""
        self._slowest = max(seconds, self._slowest * _FADING)

    def found_stale(self, connection: BoundedConnection) -> None:
        """A connection proved dead: what forgot it has forgotten those that have been idle for as long."""
        if monotonic() - connection.idle_since >= _MOMENT:
            self.dead = max(self.dead, connection.idle_since + _MOMENT)


class _Pool(HTTPConnectionPool):
    ConnectionCls = BoundedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = BoundedTlsConnection


class BoundedAdapter(HTTPAdapter):
    """The adapter of ``requests`` with bounded connections and one TLS context for all of them.

    ``connections`` is how many idle connections are kept for each host; ``ca_file`` replaces certifi's authorities.
    """

    def __init__(self, connections: int, ca_file: str | None = None) -> None:
        # requests would have every new connection load the authorities anew, ten milliseconds each.
        self._context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        self._context.load_verify_locations(ca_file or certifi.where())
        self._hosts: dict[tuple[str, str], _Host] = {}
        super().__init__(pool_connections=16, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(
            num_pools=connections,
            maxsize=maxsize,
            block=block,
            ssl_context=self._context,
            socket_options=keepalive_options(),
            **kwargs,
        )
        self._bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(
            proxy, ssl_context=self._context, socket_options=keepalive_options(), **kwargs
        )
        self._bound(manager)
        return manager

    @staticmethod
    def _bound(manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def exchange(
        self,
        request: HttpRequest,
        limits: Limits,
        proxies: dict[str, str] | None,
        *,
        alone: bool,
        believed: Believed | None,
        again: Again | None,
    ) -> HttpResponse:
        """Exchange a request on a connection to its host; see ``HttpClient.send``.

        Written here and not left to requests and urllib3, which take three times as long.
        """
        scheme, _, rest = request.url.partition("://")
        netloc, _, _ = rest.partition("/")
        host = self._hosts.get((scheme, netloc))
        if host is None:
            host = self._hosts[scheme, netloc] = self._host(f"{scheme}://{netloc}/", proxies)
        data = host.written(request)

        def anew() -> bytes:
            return data if again is None else host.written(again())

        connection: BoundedConnection = host.pool._get_conn()  # noqa: SLF001 - the pool's own way to lend one
        whole = False
        try:
            if alone or (not connection.is_closed and not connection.believable(limits.idle, host.dead)):
                connection.close()
            response = _exchange(host, connection, data, anew, method=request.method, limits=limits)
            if believed is not None and not believed(response, connection.answered):
                # Another's answer: what comes next on this connection is not to be believed either.
                connection.close()
                response = _exchange(host, connection, anew(), anew, method=request.method, limits=limits)
                if not believed(response, connection.answered):
                    connection.close()
            whole = True
        finally:
            if alone or not whole:
                connection.close()
            host.pool._put_conn(connection)  # noqa: SLF001 - one that is closed is opened again when used
        return response

    def _host(self, url: str, proxies: dict[str, str] | None) -> _Host:
        prepared = PreparedRequest()
        prepared.prepare(method="GET", url=url)
        pool = self.get_connection_with_tls_context(prepared, True, proxies=proxies)
        target = self.request_url(prepared, proxies)
        return _Host(pool, urlsplit(prepared.url or url).netloc, target.removesuffix("/"))

    def close(self) -> None:
        """Close the idle connections: urllib3 does it when nothing refers to the pools any more."""
        self._hosts.clear()
        super().close()

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Verification is the context's, for every connection: there is nothing to add, and no way to switch it off."""


def _exchange(
    host: _Host, connection: BoundedConnection, data: bytes, anew: Callable[[], bytes], *, method: str, limits: Limits
) -> HttpResponse:
    """Make an exchange on a connection, and once more on a new one if it proves stale."""
    if not connection.is_closed:
        try:
            response, seconds = connection.exchange(data, method, limits, host.patience(connection, limits))
        except StaleConnectionError:
            host.found_stale(connection)
            data = anew()
        else:
            host.answered(seconds)
            return response
    # Not in the except block: what was wrong with that connection is not the cause of what may be wrong with this one.
    _open(host.pool, connection, limits)
    response, seconds = connection.exchange(data, method, limits, limits.read)
    host.answered(seconds)
    return response


def _open(pool: Any, connection: Any, limits: Limits) -> None:
    """Connect to a host, or to the proxy and through it where the provider is behind TLS."""
    connection.timeout = limits.connect
    if pool.proxy is None:
        connection.connect()
    else:
        try:
            if pool.scheme == "https":
                pool._prepare_proxy(connection)  # noqa: SLF001 - as the pool does it
            else:
                connection.connect()
        except (OSError, HTTPError) as error:
            if connection.has_connected_to_proxy:
                raise
            raise ProxyError("cannot be used", error) from error
    connection.begin()
