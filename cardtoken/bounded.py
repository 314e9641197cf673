"""redis-py's connections, with a bound for all that they wait for.

redis-py bounds a read and a TCP connect. Here are added: the lookup of a host's name, a connect of several addresses, a
handshake with a server that accepts and says nothing, and reads that redis-py leaves without a bound (pub/sub). And
where one connection goes silent, the idle ones of the same server are not met one after the other.
"""

import socket
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import redis
from redis.exceptions import NoPermissionError
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection

from cardtoken import names, tls

#: Seconds for the lookup of the name and for TCP together, and then for each answer of the handshake.
CONNECT_TIMEOUT: Final = 2.0

#: TCP's own watch over connections that nothing is sent on, and over what is sent and not confirmed: where the other
#: host is gone, the kernel ends the connection after 20 seconds or so. What is silent at a higher level it cannot see.
TCP_OPTIONS: Final[dict[int, int]] = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": 10,
        "TCP_KEEPINTVL": 3,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 20_000,
    }.items()
    if hasattr(socket, name)
}

#: INFO's word (redis_mode, with Valkey server_mode) for what kind of server it is → why it cannot be used.
_UNUSABLE: Final = {
    "cluster": "is a node of a Redis Cluster, which this service cannot use: its scripts and queues span slots. "
    "Name a single server, or Sentinel (sentinel://) for one that fails over",
    "sentinel": "is a sentinel, not the server that it watches: write sentinel:// instead of redis://, and set "
    "REDIS_SENTINEL_MASTER (sentinel_master of a client)",
}

#: How a server refuses a number of a database that it does not have.
NO_DATABASE: Final = "DB index is out of range"


class UnusableServerError(redis.AuthenticationError):
    """The server will not do, and waiting will not mend it. The text follows "Redis at HOST"."""


class ServerState:
    """What the connections of one process to one server know of it together."""

    def __init__(self) -> None:
        #: When a command was found unanswered last: what was idle then is not trusted.
        self.unanswered_at = -1.0
        #: Whether the server's kind has been looked at.
        self.kind_known = False
        #: Called in the thread that waited for the server, each time that it waits no longer, answered or not.
        self.waited: Callable[[], None] = lambda: None

    def unanswered(self, opened_at: float) -> None:
        """A command on a connection that was opened then got no answer in time."""
        # One that is older than the last finding says nothing new: those in use notice by themselves, one by one.
        if opened_at > self.unanswered_at:
            self.unanswered_at = monotonic()

    def learn_kind(self, info: bytes | str) -> None:
        """Read the answer to INFO server; raises UnusableServerError."""
        text = info.decode(errors="replace") if isinstance(info, bytes) else info
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name in {"redis_mode", "server_mode"} and value.strip() in _UNUSABLE:
                raise UnusableServerError(_UNUSABLE[value.strip()])
        self.kind_known = True

    def learn_nothing(self, error: redis.ResponseError) -> None:
        """INFO was refused: for good where the user may not ask, for now where the server is loading its data."""
        self.kind_known = isinstance(error, NoPermissionError)


class Bounded:
    """Added to a connection class of redis-py. ``state`` is shared by all connections to the same server."""

    _sock: Any

    def __init__(self, *, state: ServerState | None = None, **kwargs: Any) -> None:
        self._state = state
        self._opened_at = 0.0
        super().__init__(**kwargs)

    def connect(self) -> None:
        """Connect, unless connected; raises UnusableServerError where trying again is of no use."""
        if self._sock is not None:
            return
        try:
            self._select()
            self._look_at_server()
        except UnusableServerError:
            self.disconnect()  # type: ignore[attr-defined]
            raise
        except (redis.RedisError, OSError) as error:
            if reason := self._refusal(error):
                raise UnusableServerError(reason) from error
            raise
        finally:
            if self._state is not None:
                self._state.waited()
        self._sock.settimeout(self.socket_timeout)  # type: ignore[attr-defined]
        self._opened_at = monotonic()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """As redis-py, but for a connection that is lost it connects as above."""
        if self._sock is None:
            self.connect()
        super().send_packed_command(command, check_health)  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py, but never without a bound; notes where an answer did not come."""
        # With Sentinel redis-py would keep a connection whose answer is overdue: the next command would read it.
        kwargs.setdefault("disconnect_on_error", True)
        if "timeout" in kwargs and kwargs["timeout"] is None:
            kwargs["timeout"] = self.socket_timeout  # type: ignore[attr-defined]
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.TimeoutError:
            if self._state is not None:
                self._state.unanswered(self._opened_at)
            raise
        finally:
            if self._state is not None:
                self._state.waited()

    def _select(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except redis.ResponseError as error:
            if self._state is None or self._state.kind_known or NO_DATABASE not in str(error):
                raise
            # From Valkey 9 on a cluster has databases, and refuses others as any server does: database 0 tells.
            connection: Any = self
            chosen, connection.db = connection.db, 0
            try:
                super().connect()  # type: ignore[misc]
                self._look_at_server()
            finally:
                connection.db = chosen
                connection.disconnect()
            raise

    def _look_at_server(self) -> None:
        if self._state is None or self._state.kind_known:
            return
        connection: Any = self
        connection.send_command("INFO", "server", check_health=False)
        try:
            info = connection.read_response()
        except redis.ResponseError as error:
            self._state.learn_nothing(error)
        else:
            self._state.learn_kind(info)

    def _refusal(self, error: BaseException) -> str | None:
        return refusal(error)


def refusal(error: BaseException) -> str | None:
    """Why a server does not take us at all, as the text of UnusableServerError; None for what time may mend."""
    text = str(error)
    if "SELECT is not allowed in cluster mode" in text:
        return _UNUSABLE["cluster"]
    if "unknown command" in text and "SELECT" in text:
        return _UNUSABLE["sentinel"]
    return None


def plain_refusal(error: BaseException, connection: Any, state: ServerState | None) -> str | None:
    """The same for a connection without TLS. May connect once more, to learn whether the server wants it."""
    if reason := refusal(error):
        return reason
    asked = state is not None and not state.kind_known
    odd = isinstance(error, redis.InvalidResponse) or tls.unexplained(error)
    return tls.WANTED if asked and odd and tls.speaks_tls(connection.host, connection.port) else None


def tls_refusal(error: BaseException, connection: Any, state: ServerState | None) -> str | None:
    """The same for a connection that speaks TLS. May connect once more, to hear the reason."""
    certified = connection.certfile is not None
    if reason := refusal(error) or tls.refusal(error, with_certificate=certified):
        return reason
    if state is None or state.kind_known:
        return None
    if isinstance(error, redis.TimeoutError):
        return tls.NOT_SPOKEN if tls.speaks_plain(connection.host, connection.port) else None
    if not tls.unexplained(error):
        return None
    files = {"ca_file": connection.ca_certs, "cert_file": connection.certfile, "key_file": connection.keyfile}
    said = tls.alert(connection.host, connection.port, **files)
    return tls.refusal(said, with_certificate=certified)


class _Tcp(redis.Connection):
    """Connects within CONNECT_TIMEOUT, the lookup of the name and all of its addresses included."""

    def _connect(self) -> socket.socket:
        end = monotonic() + CONNECT_TIMEOUT
        error: OSError | None = None
        for family, kind, protocol, _, address in names.resolve(self.host, self.port, CONNECT_TIMEOUT):
            left = end - monotonic()
            if left <= 0:
                break
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in TCP_OPTIONS.items():
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)
                sock.settimeout(left)
                sock.connect(address)
                sock.settimeout(CONNECT_TIMEOUT)  # for the handshake; connect() sets it to what commands have
            except OSError as caught:
                sock.close()
                error = caught
            else:
                return sock
        raise error or TimeoutError("Timeout connecting to server")


class BoundedConnection(Bounded, _Tcp):
    """``redis://``."""

    def _refusal(self, error: BaseException) -> str | None:
        return plain_refusal(error, self, self._state)


class BoundedTlsConnection(Bounded, redis.SSLConnection, _Tcp):
    """``rediss://``."""

    def _refusal(self, error: BaseException) -> str | None:
        return tls_refusal(error, self, self._state)


class BoundedSentinelConnection(Bounded, SentinelManagedConnection, _Tcp):
    """``sentinel://``: to the primary that the sentinels name."""


class BoundedUnixConnection(Bounded, redis.UnixDomainSocketConnection):
    """``unix://``."""


class _Wary:
    """Added to a connection pool of redis-py: after an unanswered command, what was idle is connected anew."""

    def __init__(self, *args: Any, state: ServerState | None = None, **kwargs: Any) -> None:
        super().__init__(*args, state=state, **kwargs)  # type: ignore[call-arg]
        self._state = state
        self._wary_since = -1.0

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        """A connection that answered, or that is new."""
        if self._state is not None and self._wary_since < self._state.unanswered_at:
            self._wary_since = self._state.unanswered_at
            self.disconnect(inuse_connections=False)  # type: ignore[attr-defined]
        return super().get_connection(*args, **kwargs)  # type: ignore[misc]


class BoundedPool(_Wary, redis.ConnectionPool):
    """Of one server."""


class BoundedSentinelPool(_Wary, SentinelConnectionPool):
    """Of the primary that the sentinels name."""
