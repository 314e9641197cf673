"""Lists that are named as if they were lookup queues: those for priorities, and those that no worker takes from.

A Celery client pushes a message with a priority to a list beside the queue's own: the queue's name, a separator and a
step. Both are the client's settings, so a worker can only guess them. It looks for such lists now and then, and keeps
what it found in a hash: the list's name → the queue that it is taken with, or nothing if no worker takes from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis, RedisError

from cardtoken import keys

OTHER_LISTS: Final = keys.OTHER_LISTS
#: kombu's own separator, and the one of Celery's page on Redis.
SEPARATORS: Final = ("\x06\x16", ":")
STEPS: Final = tuple(range(10))


def suffixes(separators: Iterable[str], steps: Iterable[int]) -> tuple[str, ...]:
    """Return what a queue's lists for priorities end in, the most urgent first. Step 0 is the queue's own list."""
    separators = tuple(separators)
    return tuple(f"{separator}{step}" for step in sorted(set(steps) - {0}) for separator in separators)


DEFAULT_PRIORITIES: Final = suffixes(SEPARATORS, STEPS)


@dataclass(frozen=True, slots=True)
class OtherList:
    """A list and its messages. ``queue``: the queue whose workers take from it; empty if no worker does."""

    name: str
    queue: str
    waiting: int


def other_lists(redis: Redis) -> tuple[OtherList, ...]:
    """Return those that workers found lately and that are not empty, but for the default lists for priorities."""
    found: Any = redis.hgetall(OTHER_LISTS)
    lists = []
    for name, queue in sorted(found.items()):
        try:
            waiting = int(redis.llen(name))
        except RedisError:  # gone, or another's key by now
            continue
        if waiting:
            lists.append(OtherList(name.decode(errors="replace"), queue.decode(errors="replace"), waiting))
    return tuple(lists)
