"""What a Redis URL means: the same for worker, Flower, client and command line as for a Celery producer."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

SENTINEL: Final = "sentinel://"
TLS: Final = "rediss://"
UNIX: Final = "unix://"
#: What a worker takes. The client takes a Unix socket too, which Celery would spell otherwise.
SCHEMES: Final = ("redis://", TLS, SENTINEL)
_HOW: Final = "write its number behind every host, as sentinel://HOST:26379/{0};sentinel://HOST:26379/{0}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL, read."""

    scheme: str
    #: The server; with ``sentinel://``, the sentinels. None with ``unix://``.
    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None = field(repr=False)
    db: int
    #: Of a Unix socket.
    path: str = ""

    @property
    def where(self) -> str:
        """The address without user and password, as messages name it."""
        return self.path or ";".join(f"{host}:{port}" for host, port in self.hosts)


def parse_url(url: str, schemes: tuple[str, ...] = (*SCHEMES, UNIX)) -> RedisUrl:
    """Return what a URL means.

    Raises ValueError, in words that quote no part of the URL that may be secret, for one that cannot be understood, and
    for one that Celery (kombu) understands otherwise: a producer with that URL would push where no worker looks.
    """
    parts = [_split(part, schemes) for part in url.split(";")]
    scheme = f"{parts[0].scheme}://"
    if scheme == UNIX:
        return _unix(parts)
    if len(parts) > 1 and any(part.scheme != "sentinel" for part in parts):
        raise ValueError("must name one server; only sentinel:// takes several hosts, with ; between them")
    db = _database(parts)
    username, password = _credentials(parts)
    port = 26379 if scheme == SENTINEL else 6379
    return RedisUrl(
        scheme=scheme,
        hosts=tuple((part.hostname or "", part.port or port) for part in parts),
        username=username,
        password=password,
        db=db or 0,
    )


def _split(part: str, schemes: tuple[str, ...]) -> SplitResult:
    if "," in part.rpartition("@")[2]:
        raise ValueError(f"must have ; between hosts, not a comma: {_HOW.format('N')}")
    try:
        parts = urlsplit(part)
        _ = parts.port
        host = parts.hostname
    except ValueError:
        raise ValueError("is no URL; write / @ : in a password as %2F %40 %3A") from None
    if not part.startswith(schemes) or not (host or part.startswith(UNIX)):
        raise ValueError("must begin with one of " + ", ".join(schemes) + " and name a host")
    if parts.scheme == "unix":
        return parts
    if parts.query or parts.fragment:
        raise ValueError("must have nothing behind the database's number")
    database = parts.path.removeprefix("/")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError("must end with the number of a database, such as /0; write / in a password as %2F")
    return parts


def _database(parts: list[SplitResult]) -> int | None:
    """The number that kombu takes: the first host's, until another host with another number has its turn."""
    numbers = [int(part.path.removeprefix("/")) if part.path.removeprefix("/") else None for part in parts]
    first, said = numbers[0], {number for number in numbers if number is not None}
    if len(said) > 1:
        raise ValueError(f"names several databases; choose one; {_HOW.format('N')}")
    if first is None and said - {0}:
        raise ValueError(f"names a database that Celery producers would not see; {_HOW.format(said.pop())}")
    return first


def _credentials(parts: list[SplitResult]) -> tuple[str | None, str | None]:
    """User and password of the server. kombu takes each host's own, so no later host may have others than the first."""
    login, *others = [(unquote(part.username or ""), unquote(part.password or "")) for part in parts]
    if any(other not in (login, ("", "")) for other in others):
        raise ValueError("has another user or password for another host; write the same ones in front of every host")
    return login[0] or None, login[1] or None


def _unix(parts: list[SplitResult]) -> RedisUrl:
    if len(parts) > 1:
        raise ValueError("must name one server; only sentinel:// takes several hosts, with ; between them")
    [only] = parts
    query = dict(pair.partition("=")[::2] for pair in only.query.split("&") if pair)
    db = query.pop("db", "0")
    if query or only.fragment or not (db.isascii() and db.isdigit()):
        raise ValueError("must have nothing behind the socket's path but ?db=N")
    # redis-py's own form: unix://[user:password@]/path/to.sock?db=0
    return RedisUrl(
        scheme=UNIX,
        hosts=(),
        username=unquote(only.username) if only.username else None,
        password=unquote(only.password) if only.password else None,
        db=int(db),
        path=unquote(only.path),
    )
