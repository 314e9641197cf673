"""How many lookups wait: a message holds one or hundreds, so the length of a queue does not tell.

Each queue's lookups are counted now and then, by a script that reads a part of a list at a time. In between the count
goes with the number of messages, which Redis knows at any time. The longer a count takes the rarer it is, so that
counting takes a fixed share of time, however much waits. One worker of the fleet counts for all
(tasks/stores/waiting.py) and keeps what it found in Redis. Where no worker counts, a process that looks does it itself.
"""

import base64
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from redis import Redis, ResponseError

from cardtoken import keys
from cardtoken.other_lists import DEFAULT_PRIORITIES, OtherList
from cardtoken.providers import PROVIDERS
from cardtoken.queue_entry import requests_of
from cardtoken.scripts import source

#: Entries of a queue that one count reads at most. Of more it reads parts, evenly spread over the queue.
MOST_READ: Final = 120_000
#: Entries of one such part.
_PART: Final = 250
#: Bytes that Redis reads in one go: some tenths of a millisecond.
_BYTES: Final = 256 << 10
_FIRST_STEP: Final = 8
#: Seconds between two counts of a queue at least, and the share of all time that counts may take.
PAUSE: Final = 10.0
SHARE: Final = 1 / 150
#: What a byte may take Redis: twice as long as on the machine of docs/reliability.md.
_SECONDS_A_BYTE: Final = 6e-9
#: Seconds for which the fleet's count is kept when no worker counts any more.
_KEPT: Final = 60


@dataclass(frozen=True, slots=True)
class QueueCount:
    """One count of a queue: messages that a worker could take now, lookups in them, seconds it took Redis, when it was.

    ``at`` is Unix time in seconds by Redis' clock.
    """

    messages: int
    lookups: int
    took: float
    at: float

    def lookups_of(self, messages: int) -> int:
        """Return the lookups that so many messages hold, if they are as those that were counted."""
        return round(messages * self.lookups / self.messages) if self.messages else messages


def lists_of(queue: str, others: Sequence[OtherList]) -> tuple[str, ...]:
    """Return the names of all lists from which a queue's workers take messages as producers pushed them."""
    taken = (each.name for each in others if each.queue == queue)
    return (queue, *(queue + suffix for suffix in DEFAULT_PRIORITIES), *taken)


class WaitingLookups:
    """The counts of all queues, for a process that looks: those of the fleet, or its own where no worker counts.

    With ``counts`` false, queues that the fleet has not counted are left out.
    """

    def __init__(self, redis: Redis, *, counts: bool = True) -> None:
        self._redis = redis
        self._counts = counts
        self._own: dict[str, QueueCount] = {}

    def of(self, queues: Mapping[str, Sequence[str]]) -> Mapping[str, QueueCount]:
        """Return the latest count of each queue; ``queues`` are names, each with its lists.

        Raises ``redis.RedisError``.
        """
        if (found := shared(self._redis)) is not None:
            return found
        if self._counts:
            self._own = recount(self._redis, queues, self._own)
        return self._own


def shared(redis: Redis) -> dict[str, QueueCount] | None:
    """Return what the fleet counted lately; None where no worker counts. Raises ``redis.RedisError``."""
    found: Any = redis.get(keys.WAITING)
    return {queue: QueueCount(*fields) for queue, fields in json.loads(found).items()} if found else None


def share(redis: Redis, counts: Mapping[str, QueueCount]) -> None:
    """Keep counts for all who look. Raises ``redis.RedisError``."""
    fields = {queue: [each.messages, each.lookups, each.took, each.at] for queue, each in counts.items()}
    redis.set(keys.WAITING, json.dumps(fields), ex=_KEPT)


def recount(
    redis: Redis,
    queues: Mapping[str, Sequence[str]],
    known: Mapping[str, QueueCount],
    rest: Callable[[float], object] = time.sleep,
) -> dict[str, QueueCount]:
    """Return the known counts, with those renewed that are due. Raises ``redis.RedisError``, and what ``rest`` raises.

    ``rest`` is called with seconds after each part: those who ask Redis for something else have a turn as long.
    """
    counts = {queue: count for queue, count in known.items() if queue in queues}
    for queue in queues:
        seconds, micros = redis.time()
        now = seconds + micros / 1_000_000
        # By square roots the short queues are counted more often than their share, and all together cost as much.
        roots = sum(math.sqrt(each.took) for each in counts.values())
        last = counts.get(queue)
        if last is not None and 0 <= now - last.at < max(PAUSE, math.sqrt(last.took) * roots / SHARE):
            continue
        counts[queue] = count(redis, queue, queues[queue], now, rest)
    return counts


def count(
    redis: Redis, queue: str, lists: Sequence[str], now: float, rest: Callable[[float], object] = time.sleep
) -> QueueCount:
    """Count the lookups that a queue's workers could take ``now``. Raises ``redis.RedisError``.

    These are those in its lists, those given back, and those that were delayed and whose time has come.
    """
    sources = [("entries", each) for each in lists]
    sources += [("ids", keys.given_back(queue)), ("due", keys.delayed(queue))]
    with redis.pipeline(transaction=False) as pipeline:
        for kind, key in sources:
            if kind == "due":
                pipeline.zcount(key, "-inf", now * 1000)
            else:
                pipeline.llen(key)
        # The key of another program, of another type, holds nothing of ours.
        lengths = [0 if isinstance(each, ResponseError) else each for each in pipeline.execute(raise_on_error=False)]
    for each in lengths:
        if isinstance(each, Exception):
            raise each
    messages = sum(lengths)
    lookups, took = 0.0, 0.0
    for (kind, key), length in zip(sources, lengths, strict=True):
        if length:
            part = _Part(length)
            part.read(redis, kind, key, most=max(_PART, MOST_READ * length // messages), queue=queue, rest=rest)
            lookups += part.lookups
            took += part.took
    return QueueCount(messages, round(lookups), took, now)


class _Part:
    """What was read of one list or sorted set, and what follows from it for the whole."""

    def __init__(self, length: int) -> None:
        self.took = 0.0
        self._length = length
        self._read = 0
        self._found = 0
        #: Size of entries in which no field was found → how many there are, how many were parsed, lookups in these.
        self._odd: dict[int, list[int]] = {}

    def read(
        self, redis: Redis, kind: str, key: str, *, most: int, queue: str, rest: Callable[[float], object]
    ) -> None:
        """Read ``most`` entries at most. Raises ``redis.RedisError``, and what ``rest`` raises."""
        script = redis.register_script(source("cardtoken", "waiting"))
        step: Any = _FIRST_STEP
        for begin, end in _places(self._length, most):
            place = begin
            while place < end:
                begun = time.monotonic()
                seen, size, found, step, *odd = script(
                    keys=[key], args=[kind, place, end - place, _BYTES, step, *_patterns(queue)]
                )
                took = time.monotonic() - begun
                # Where the machine has other things to do, the longest that it may have taken Redis.
                self.took += min(took, size * _SECONDS_A_BYTE)
                if not seen:
                    break
                place += seen
                self._add(seen, found, odd)
                rest(took)

    def _add(self, seen: int, found: int, odd: Sequence[Any]) -> None:
        self._read += seen
        self._found += found
        for size, many, entry in zip(odd[::3], odd[1::3], odd[2::3], strict=True):
            of_size = self._odd.setdefault(size, [0, 0, 0])
            of_size[0] += many
            of_size[1] += 1
            # What cannot be read is one thing for a worker to do.
            of_size[2] += len(requests_of(entry) or [None])

    @property
    def lookups(self) -> float:
        """The lookups in the whole of it."""
        if not self._read:
            return 0.0
        odd = sum(many * lookups / parsed for many, parsed, lookups in self._odd.values())
        return (self._found + odd) * self._length / self._read


def _places(length: int, most: int) -> Iterator[tuple[int, int]]:
    """Return from where to where to read: all of it, or parts that are evenly spread, ``most`` entries together."""
    if length <= most:
        yield 0, length
        return
    stride = length * _PART / most
    place = random.random() * (stride - _PART)  # noqa: S311 - a sample
    while place + _PART <= length:
        yield round(place), round(place) + _PART
        place += stride


@cache
def _patterns(queue: str) -> tuple[str, ...]:
    """Return how base64 shows the field that each request of a queue has, for each of the three offsets."""
    provider = queue.split(".")[1:2]
    named = [PROVIDERS[name] for name in provider if name in PROVIDERS] or PROVIDERS.values()
    patterns = []
    for each in named:
        field = f'"{each.reference_field}"'.encode()
        for skipped in range(3):
            # What shares its three bytes with what stands beside the field is left out.
            whole = field[skipped:]
            patterns.append(base64.b64encode(whole[: len(whole) // 3 * 3]).decode())
    return tuple(patterns)
