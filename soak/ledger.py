"""Counts what came out against what went in, by task id and index, for tens of thousands of lookups."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from redis import RedisError

from soak.messages import entry, push, queue_of, raw, requests_of

Lookup = tuple[str, int]
STREAM = "token-records:default"
#: What holds messages that are neither pushed away nor done.
_BETWEEN = ("lookup:claim:*", "lookup:leases", "lookup:given-back:*", "lookup:delayed:*", "lookup.*", "unacked*")
_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Count:
    """The end of a run, in lookups."""

    lost: int
    #: Results beyond the first of their lookup.
    second: int
    #: Results of nothing that was sent.
    strange: int
    failed: int
    #: Keys of messages that are in between after all is done.
    left: int

    @property
    def exact(self) -> bool:
        """One result each, and nothing left."""
        return not (self.lost or self.second or self.strange or self.left)


class Ledger:
    """What was sent, and its results."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self.sent: set[Lookup] = set()

    def sending(self, provider: str, references: list[str]) -> tuple[str, list[dict[str, str]]]:
        """Task id and requests of a message that somebody is about to push; its lookups count as sent."""
        task_id = str(uuid.uuid4())
        self.sent.update((task_id, index) for index in range(len(references)))
        return task_id, requests_of(provider, references)

    def prepare(self, provider: str, references: list[str], lane: str = "bulk") -> tuple[str, bytes]:
        """The same as queue and entry."""
        task_id, asked = self.sending(provider, references)
        return queue_of(provider, lane), raw(entry(provider, task_id, asked, lane=lane))

    def push(self, messages: list[tuple[str, bytes]]) -> None:
        """Push messages, in their order within each queue."""
        for queue in dict.fromkeys(queue for queue, _ in messages):
            push(self._redis, queue, [data for name, data in messages if name == queue])

    def out(self) -> int:
        """How many results there are; -1 while Redis is away."""
        try:
            return int(self._redis.xlen(STREAM))
        except (RedisError, OSError):
            return -1

    def results(self) -> Iterator[dict[str, Any]]:
        """Every result that there is."""
        last = b"-"
        while rows := self._redis.xrange(STREAM, min=last, count=_CHUNK):
            for _, fields in rows:
                yield json.loads(fields[b"result"])
            last = b"(" + rows[-1][0]

    def settle(
        self, patience: float, told: Callable[[int], None], meanwhile: Callable[[], object] = lambda: None
    ) -> float:
        """Wait until all is out, or until nothing has come for ``patience`` seconds; answers when the last came."""
        seen, last = -1, time.monotonic()
        while True:
            meanwhile()
            out = self.out()
            if out > seen:
                seen, last = out, time.monotonic()
                told(out)
            if out >= len(self.sent) and self._complete() and not self.left():
                return last
            if time.monotonic() - last > patience:
                return last
            time.sleep(0.2)

    def _complete(self) -> bool:
        return self._found().keys() >= self.sent

    def _found(self) -> Counter[Lookup]:
        return Counter(_lookup(result) for result in self.results())

    def count(self) -> Count:
        """Hold one against the other."""
        found: Counter[Lookup] = Counter()
        failed = 0
        for result in self.results():
            found[_lookup(result)] += 1
            failed += result["status"] == "failed"
        return Count(
            lost=len(self.sent - found.keys()),
            second=sum(found.values()) - len(found),
            strange=len(found.keys() - self.sent),
            failed=failed,
            left=len(self.left()),
        )

    def left(self) -> list[bytes]:
        """Keys of messages in between."""
        return [key for pattern in _BETWEEN for key in self._redis.keys(pattern)]


def _lookup(result: dict[str, Any]) -> Lookup:
    task_id, _, index = result["lookup_id"].rpartition(":")
    return task_id, int(index)
