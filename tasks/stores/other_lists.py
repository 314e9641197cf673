"""Looks for lists that are named like lookup queues, a part of the database at a time, for the whole fleet."""

from collections.abc import Collection
from typing import Any, Final

from redis import Redis

from cardtoken import keys
from cardtoken.other_lists import DEFAULT_PRIORITIES, OTHER_LISTS

#: Seconds between two looks.
PAUSE: Final = 5.0
#: Keys that one look passes at most, in steps of so many: Redis is held up for a fraction of a millisecond each.
_STEPS: Final = 40
_STEP: Final = 500
#: Lists that are kept: a name may be anything, and there may be any number.
_MOST: Final = 100


class OtherListsFinder:
    """``queues``: those of this service. ``priorities``: what the lists beside them end in that workers take from."""

    def __init__(self, redis: Redis, queues: Collection[str], priorities: Collection[str]) -> None:
        self._redis = redis
        self._queues = frozenset(queues)
        self._taken = {queue + suffix: queue for queue in queues for suffix in priorities}
        self._counted = self._queues | {queue + suffix for queue in queues for suffix in DEFAULT_PRIORITIES}
        self._cursor = 0

    def look_for_all(self) -> None:
        """Look, unless another worker of the fleet does. Raises ``redis.RedisError``."""
        # The lock runs out by itself, so no worker can die holding it.
        if self._redis.set(keys.OTHER_LISTS_LOCK, 1, nx=True, px=int(PAUSE * 900)):
            self.look()

    def look(self) -> None:
        """Look at some of the keys, from where the last look ended, and again at those that were found before."""
        known: Any = self._redis.hgetall(OTHER_LISTS)
        found = set(known)
        for _ in range(_STEPS):
            self._cursor, names = self._redis.scan(self._cursor, match="lookup.*", count=_STEP, _type="list")
            found.update(names)
            if not self._cursor:
                break
        for name in sorted(found)[:_MOST]:
            self._note(name, known.get(name))

    def _note(self, name: bytes, known: bytes | None) -> None:
        text = name.decode(errors="replace")
        is_one = text not in self._counted or (text in self._counted - self._queues and text not in self._taken)
        if not is_one or not self._redis.exists(name):
            if known is not None:
                self._redis.hdel(OTHER_LISTS, name)
            return
        queue = self._taken.get(text, "")
        if known is None or known.decode() != queue:
            self._redis.hset(OTHER_LISTS, name, queue)
