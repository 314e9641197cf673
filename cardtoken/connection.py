"""The connection to Redis: one URL for a single server, with or without TLS, and for Sentinel."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

if TYPE_CHECKING:
    import redis.asyncio

_SENTINEL = "sentinel://"
SCHEMES = ("redis://", "rediss://", "sentinel://")
#: More than a server admits: what waits for an answer holds a connection, and is not to wait for another's as well.
_MAX_CONNECTIONS = 10_000


def check_url(url: str, schemes: tuple[str, ...] = (*SCHEMES, "unix://")) -> None:
    """Raise ValueError, in words that quote nothing of the URL, where it cannot be understood."""
    *sentinels, last = url.split(";")
    for part in (*sentinels, last):
        try:
            parts = urlsplit(part)
            _ = parts.port
            host = parts.hostname
        except ValueError:
            raise ValueError("is no URL; write / @ : in a password as %2F %40 %3A") from None
        if not part.startswith(schemes) or not (host or part.startswith("unix://")):
            raise ValueError("must begin with one of " + ", ".join(schemes) + " and name a host")
        if part.startswith("unix://"):
            continue
        if parts.query or parts.fragment:
            raise ValueError("must have nothing behind the database's number")
        database = parts.path.strip("/")
        if database and (part is not last or not (database.isascii() and database.isdigit())):
            raise ValueError("must end with the number of a database, such as /0; write / in a password as %2F")


def connect(
    url: str,
    *,
    ca_file: Path | None = None,
    sentinel_master: str = "",
    sentinel_password: str | None = None,
    client_name: str = "cardtoken",
    socket_timeout: float = 10.0,
) -> Redis:
    """A client, thread-safe, that connects when it is first used and does not retry by itself.

    ``url`` is ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://HOST:PORT;sentinel://HOST:PORT/DB``. A server
    that needs longer than ``socket_timeout`` seconds for one command is treated as away. Raises ValueError, which
    quotes nothing of it, for any other URL.
    """
    check_url(url)
    options = _options(url, ca_file, client_name, socket_timeout)
    # Whoever asks knows for how long to go on trying; a hidden second try would only blur the first failure.
    options["retry"] = Retry(NoBackoff(), 0)
    if not url.startswith(_SENTINEL):
        return Redis.from_url(url, **options)
    sentinels, server = _sentinels(url, sentinel_master)
    asking = {**_asking(options), "password": sentinel_password}
    found = Sentinel(sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]  # redis-py's gap
    client: Redis = found.master_for(sentinel_master, **server, **options)  # type: ignore[no-untyped-call]
    return client


def connect_async(
    url: str,
    *,
    ca_file: Path | None = None,
    sentinel_master: str = "",
    sentinel_password: str | None = None,
    client_name: str = "cardtoken",
    socket_timeout: float = 10.0,
) -> "redis.asyncio.Redis":
    """The same as :func:`connect`, for asyncio."""
    # Here, so that only those pay for it who use it.
    import redis.asyncio.retry
    import redis.asyncio.sentinel

    check_url(url)
    options = _options(url, ca_file, client_name, socket_timeout)
    options["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0)
    if not url.startswith(_SENTINEL):
        return redis.asyncio.Redis.from_url(url, **options)
    sentinels, server = _sentinels(url, sentinel_master)
    asking = {**_asking(options), "password": sentinel_password}
    found = redis.asyncio.sentinel.Sentinel(sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    client: redis.asyncio.Redis = found.master_for(sentinel_master, **server, **options)
    return client


def _options(url: str, ca_file: Path | None, client_name: str, socket_timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "health_check_interval": 30,
        "client_name": client_name,
        "max_connections": _MAX_CONNECTIONS,
        # Said in so many words, or redis-py opens with HELLO, which a server too old to know it answers with a riddle.
        "protocol": 2,
    }
    if not url.startswith("unix://"):
        options |= {"socket_connect_timeout": socket_timeout, "socket_keepalive": True}
    if url.startswith("rediss://"):
        options |= {"ssl_cert_reqs": "required", "ssl_ca_certs": str(ca_file) if ca_file else None}
    return options


def _sentinels(url: str, master: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """The sentinels' addresses, and the credentials and database of the server that they are asked for.

    kombu's form of a URL: ``sentinel://[user:password@]HOST:PORT;sentinel://HOST:PORT/DB``.
    """
    if not master:
        raise ValueError("a sentinel:// URL needs the name of the primary too: sentinel_master='mymaster'")
    parts = [urlsplit(part) for part in url.split(";")]
    first, last = parts[0], parts[-1]
    server = {
        "username": unquote(first.username) if first.username else None,
        "password": unquote(first.password) if first.password else None,
        "db": int(last.path.strip("/") or 0),
    }
    return [(part.hostname or "127.0.0.1", part.port or 26379) for part in parts], server


def _asking(options: dict[str, Any]) -> dict[str, Any]:
    """What of a server's options holds for its sentinels too: one that is away is passed over at once."""
    return {name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "protocol", "retry")}
