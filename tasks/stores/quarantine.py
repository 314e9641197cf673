"""Where queue entries go that no worker can take: kept byte for byte, for someone to look at."""

from datetime import UTC, datetime

from redis import Redis

from cardtoken.contract import QUARANTINE, format_time
from tasks.stores.results import Bounds

#: An entry longer than this is kept by its beginning alone, and with its length.
_LARGEST_WHOLE = 16 << 20
_BEGINNING = 64 << 10


class Quarantine:
    """The stream of malformed queue entries."""

    def __init__(self, redis: Redis, bounds: Bounds) -> None:
        self._redis = redis
        self._bounds = bounds

    def add(self, queue: str, raw: bytes, reason: str) -> None:
        """Keep an entry; raises ``redis.RedisError`` when Redis could not be asked. The reason quotes nothing of it."""
        fields: dict[str, bytes | str | int] = {
            "queue": queue,
            "reason": reason,
            "quarantined_at": format_time(datetime.now(UTC)),
            "raw": raw,
        }
        if len(raw) > _LARGEST_WHOLE:
            fields |= {"raw": raw[:_BEGINNING], "truncated_from": len(raw)}
        self._redis.xadd(QUARANTINE, fields, maxlen=self._bounds.length, approximate=False)  # type: ignore[arg-type]
