"""How both clients use redis-py."""

from collections.abc import Mapping
from typing import Any, Final

from redis.client import NEVER_DECODE

#: The longest that a read waits in Redis, in seconds: a client that is closed is noticed after that.
_LONGEST_WAIT: Final = 1.0

#: Commands whose replies redis-py shapes differently from version to version. They are read as Redis sent them.
_SHAPED: Final = ("XREAD", "XREADGROUP", "XAUTOCLAIM")
UNDECODED: Final[Mapping[str, Any]] = {NEVER_DECODE: True}


def untouched(client: Any) -> Any:
    """Return a client of either kind whose replies are the same with every version and protocol."""
    for command in _SHAPED:
        client.set_response_callback(command, _raw)
    return client


def _raw(answer: object, **_: object) -> object:
    return answer


def longest_wait(connection_options: Mapping[str, Any]) -> float:
    """For how many seconds a read may wait in Redis: well within what the connection takes for a dead server."""
    socket_timeout = connection_options.get("socket_timeout")
    return _LONGEST_WAIT if socket_timeout is None else min(_LONGEST_WAIT, socket_timeout / 2)


def pools(pool: Any) -> list[Any]:
    """A client's pool, and those in which it asks sentinels for the primary, if it does."""
    manager = getattr(pool, "sentinel_manager", None)
    return [pool, *(sentinel.connection_pool for sentinel in (manager.sentinels if manager else ()))]
