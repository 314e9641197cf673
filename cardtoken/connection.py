"""The one way to Redis: every part that connects, worker, Flower, client or command line, does it through here.

One URL for a single server, with or without TLS, and for Sentinel; bounds for all that a connection waits for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cardtoken import bounded, tls
from cardtoken.bounded import CONNECT_TIMEOUT, TCP_OPTIONS, ServerState
from cardtoken.login import Login
from cardtoken.redis_url import SCHEMES, SENTINEL, TLS, UNIX, RedisUrl, parse_url

if TYPE_CHECKING:
    import redis.asyncio

__all__ = ["SCHEMES", "SOCKET_TIMEOUT", "Endpoint", "check_url", "connect", "connect_async"]

#: Seconds after which a Redis that does not answer counts as away.
SOCKET_TIMEOUT: Final = 5.0
#: Seconds that a connection may be idle before it is asked for a sign of life ahead of the next command.
_HEALTH_CHECK: Final = 30
#: More than a server admits: what waits for an answer holds a connection, and is not to wait for another's as well.
_MAX_CONNECTIONS: Final = 10_000


def check_url(url: str, schemes: tuple[str, ...] = (*SCHEMES, UNIX)) -> None:
    """Raise ValueError, in words that quote nothing of the URL, where it cannot be understood."""
    parse_url(url, schemes)


@dataclass(frozen=True)
class Endpoint:
    """A Redis to connect to, and how.

    ``url`` is ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://HOST:PORT/DB;sentinel://HOST:PORT/DB``, the last
    with ``sentinel_master``. A server that needs longer than ``socket_timeout`` seconds for one command counts as away.
    Raises ValueError, which quotes nothing secret, where one of these cannot be used.
    """

    url: str = field(repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sentinel_master: str = ""
    sentinel_password: str | None = field(default=None, repr=False)
    socket_timeout: float = SOCKET_TIMEOUT
    _state: ServerState = field(default_factory=ServerState, repr=False, compare=False)
    _login: Login = field(default_factory=lambda: Login(None, None), repr=False, compare=False)
    _sentinel_login: Login = field(default_factory=lambda: Login(None, None), repr=False, compare=False)

    def __post_init__(self) -> None:
        self.log_in_as(self)
        if self.parsed.scheme == SENTINEL and not self.sentinel_master:
            raise ValueError("a sentinel:// URL needs the name of the primary too: sentinel_master='mymaster'")
        tls.check_certificate(self.cert_file, self.key_file)

    @cached_property
    def parsed(self) -> RedisUrl:
        """The URL, read."""
        return parse_url(self.url)

    def log_in_as(self, other: "Endpoint") -> None:
        """Let new connections log in as those of another endpoint do, at the sentinels too."""
        self._login.replace(other.parsed.username, other.parsed.password)
        self._sentinel_login.replace(None, other.sentinel_password)

    @property
    def where(self) -> str:
        """The address, without user and password."""
        return self.parsed.where

    def pool(
        self,
        client_name: str,
        *,
        health_check_interval: float = _HEALTH_CHECK,
        derive: Callable[[type[Any]], type[Any]] = lambda connection: connection,
    ) -> ConnectionPool:
        """Connections that are made when they are first used, and do not retry by themselves.

        ``derive`` makes another class of the one that a connection would have.
        """
        options = {
            **self._options(client_name),
            "health_check_interval": health_check_interval,
            "retry": Retry(NoBackoff(), 0),
            "connection_class": derive(_CLASSES[self.parsed.scheme]),
        }
        if self.parsed.scheme != SENTINEL:
            return bounded.BoundedPool(**options, **self._address())
        # Here, as few need it.
        from cardtoken.sentinel import Sentinels

        sentinels = Sentinels(self.parsed.hosts, self._sentinel_login)
        return bounded.BoundedSentinelPool(self.sentinel_master, sentinels, **options)

    def after_each_wait(self, call: Callable[[], None]) -> None:
        """Call this in each thread that has waited for the server, once it waits no longer, answered or not."""
        self._state.waited = call

    def connect(self, client_name: str = "cardtoken") -> Redis:
        """A client, thread-safe, on connections of its own."""
        return Redis.from_pool(self.pool(client_name))

    def connect_async(self, client_name: str = "cardtoken") -> "redis.asyncio.Redis":
        """A client for asyncio."""
        # Here, so that only those pay for it who use it.
        import redis.asyncio
        from redis.asyncio.retry import Retry as AsyncRetry
        from redis.asyncio.sentinel import SentinelConnectionPool

        from cardtoken import bounded_async as twin

        classes: dict[str, type[Any]] = {
            "redis://": twin.AsyncBoundedConnection,
            TLS: twin.AsyncBoundedTlsConnection,
            SENTINEL: twin.AsyncBoundedSentinelConnection,
            UNIX: twin.AsyncBoundedUnixConnection,
        }
        options = {
            **self._options(client_name),
            "health_check_interval": _HEALTH_CHECK,
            "retry": AsyncRetry(NoBackoff(), 0),
            "connection_class": classes[self.parsed.scheme],
        }
        if self.parsed.scheme == SENTINEL:
            sentinels = twin.AsyncSentinels(self.parsed.hosts, self._sentinel_login)
            pool: Any = SentinelConnectionPool(self.sentinel_master, sentinels, **options)  # type: ignore[no-untyped-call]
        else:
            pool = redis.asyncio.ConnectionPool(**options, **self._address())
        return redis.asyncio.Redis.from_pool(pool)

    def _options(self, client_name: str) -> dict[str, Any]:
        options: dict[str, Any] = {
            "state": self._state,
            "credential_provider": self._login,
            "db": self.parsed.db,
            "client_name": client_name,
            "max_connections": _MAX_CONNECTIONS,
            "socket_timeout": self.socket_timeout,
            # Said in so many words, or redis-py opens with HELLO, which a server too old to know it answers with a
            # riddle.
            "protocol": 2,
        }
        if self.parsed.scheme != UNIX:
            options |= {
                "socket_connect_timeout": min(CONNECT_TIMEOUT, self.socket_timeout),
                "socket_keepalive": True,
                "socket_keepalive_options": TCP_OPTIONS,
            }
        if self.parsed.scheme == TLS:
            options |= {
                "ssl_cert_reqs": "required",
                "ssl_ca_certs": _text(self.ca_file),
                "ssl_certfile": _text(self.cert_file),
                "ssl_keyfile": _text(self.key_file),
            }
        return options

    def _address(self) -> dict[str, Any]:
        if self.parsed.scheme == UNIX:
            return {"path": self.parsed.path}
        [(host, port)] = self.parsed.hosts
        return {"host": host, "port": port}


_CLASSES: Final[dict[str, type[Any]]] = {
    "redis://": bounded.BoundedConnection,
    TLS: bounded.BoundedTlsConnection,
    SENTINEL: bounded.BoundedSentinelConnection,
    UNIX: bounded.BoundedUnixConnection,
}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def connect(url: str, *, client_name: str = "cardtoken", **options: Any) -> Redis:
    """A client, thread-safe, that connects when it is first used; the options are those of :class:`Endpoint`."""
    return Endpoint(url, **options).connect(client_name)


def connect_async(url: str, *, client_name: str = "cardtoken", **options: Any) -> "redis.asyncio.Redis":
    """The same as :func:`connect`, for asyncio."""
    return Endpoint(url, **options).connect_async(client_name)
