"""The connection to Redis: one URL for a single server, with or without TLS, and for Sentinel."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

#: Seconds that one command may take; a server that needs longer is treated as away.
_SOCKET_TIMEOUT = 10.0


def connect(
    url: str, *, ca_file: Path | None = None, sentinel_master: str = "", sentinel_password: str | None = None
) -> Redis:
    """A client, thread-safe, that connects when it is first used and does not retry by itself."""
    options: dict[str, Any] = {
        "socket_timeout": _SOCKET_TIMEOUT,
        "socket_connect_timeout": _SOCKET_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 30,
        # Whoever publishes knows for how long to go on trying; a hidden second try would only blur the first failure.
        "retry": Retry(NoBackoff(), 0),
        "client_name": "cardtoken-worker",
        # Said in so many words, or redis-py opens with HELLO, which a server too old to know it answers with a riddle.
        "protocol": 2,
    }
    if url.startswith("sentinel://"):
        return _through_sentinel(url, sentinel_master, sentinel_password, options)
    if url.startswith("rediss://"):
        options |= {"ssl_cert_reqs": "required", "ssl_ca_certs": str(ca_file) if ca_file else None}
    return Redis.from_url(url, **options)


def _through_sentinel(url: str, master: str, password: str | None, options: dict[str, Any]) -> Redis:
    # kombu's form: sentinel://[user:password@]HOST:PORT;sentinel://HOST:PORT/DB, credentials being the server's.
    parts = [urlsplit(part) for part in url.split(";")]
    sentinels = [(part.hostname or "127.0.0.1", part.port or 26379) for part in parts]
    first, last = parts[0], parts[-1]
    sentinel_options: dict[str, Any] = {"socket_timeout": _SOCKET_TIMEOUT, "password": password}
    found = Sentinel(sentinels, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]  # redis-py's gap
    client: Redis = found.master_for(  # type: ignore[no-untyped-call]  # redis-py's gap
        master,
        username=unquote(first.username) if first.username else None,
        password=unquote(first.password) if first.password else None,
        db=int(last.path.strip("/") or 0),
        **options,
    )
    return client
