"""Where queue entries go that no worker can take: kept byte for byte, for an operator to look at."""

from redis import Redis

from cardtoken import keys
from cardtoken.contract import format_time
from cardtoken.scripts import source
from tasks.stores.clock import Clock
from tasks.stores.results import Bounds

#: An entry longer than this is kept by its beginning alone, and with its length.
_LARGEST_WHOLE = 16 << 20
_BEGINNING = 64 << 10


class Quarantine:
    """The stream of malformed queue entries."""

    def __init__(self, redis: Redis, bounds: Bounds, clock: Clock) -> None:
        self._clock = clock
        self._bounds = bounds
        self._script = redis.register_script(source(__package__, "quarantine"))

    def add(self, claim_id: str, reason: str) -> None:
        """Move a claimed entry here; raises ``redis.RedisError`` when Redis could not be asked.

        The entry's bytes stay in Redis. The reason quotes nothing of it.
        """
        when = format_time(self._clock.now())
        limits = [self._bounds.length, _LARGEST_WHOLE, _BEGINNING]
        self._script(keys=[keys.LEASES, keys.QUARANTINE, keys.claim(claim_id)], args=[claim_id, *limits, reason, when])
