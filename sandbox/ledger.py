"""Counting the results against the lookups that were sent, for one test's few and for tens of thousands."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from redis import RedisError

from sandbox.messages import entry, push, queue_of, raw, requests_of
from sandbox.service import Service
from sandbox.waiting import until

#: Task id and index.
Lookup = tuple[str, int]
STREAM = "token-records:default"
#: What holds messages that are neither in a producer's hands nor done.
_BETWEEN = ("lookup:claim:*", "lookup:leases", "lookup:given-back:*", "lookup:delayed:*", "lookup.*", "unacked*")
_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Count:
    """The end of a run, in lookups."""

    lost: int
    #: Results beyond the first of their lookup.
    second: int
    #: Results of lookups that were not sent.
    strange: int
    failed: int
    #: Keys of messages that are still in between.
    left: int

    @property
    def exact(self) -> bool:
        """Whether each lookup has one result and no message is left in between."""
        return not (self.lost or self.second or self.strange or self.left)


class Ledger:
    """The lookups and malformed entries that were sent to a service, and what became of them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._redis = service.redis
        self.sent: set[Lookup] = set()
        self.malformed: list[bytes] = []

    # --- sending

    def send(self, references: list[str], provider: str = "opay", **options: Any) -> str:
        """Send one message through Celery; return its task id."""
        task_id, requests = self.sending(provider, references)
        return self._service.send(provider, requests, task_id=task_id, **options)

    def sending(self, provider: str, references: list[str]) -> tuple[str, list[dict[str, str]]]:
        """Count the lookups of a message as sent; return the task id and requests that the caller is to push."""
        task_id = str(uuid.uuid4())
        self.sent.update((task_id, index) for index in range(len(references)))
        return task_id, requests_of(provider, references)

    def prepare(self, provider: str, references: list[str], lane: str = "bulk") -> tuple[str, bytes]:
        """Do what ``sending`` does; return queue and entry."""
        task_id, requests = self.sending(provider, references)
        return queue_of(provider, lane), raw(entry(provider, task_id, requests, lane=lane))

    def push(self, messages: list[tuple[str, bytes]]) -> None:
        """Push entries, in their order within each queue."""
        for queue in dict.fromkeys(queue for queue, _ in messages):
            push(self._redis, queue, [data for name, data in messages if name == queue])

    def push_malformed(self, data: bytes, queue: str = "lookup.opay.interactive") -> None:
        """Push one entry that is not a message."""
        self.push([(queue, data)])
        self.malformed.append(data)

    # --- counting

    def out(self) -> int:
        """Return how many results there are; -1 while Redis is away."""
        try:
            return int(self._redis.xlen(STREAM))
        except (RedisError, OSError):
            return -1

    def results(self) -> Iterator[dict[str, Any]]:
        """Return every result that there is."""
        last = b"-"
        while rows := self._redis.xrange(STREAM, min=last, count=_CHUNK):
            for _, fields in rows:
                yield json.loads(fields[b"result"])
            last = b"(" + rows[-1][0]

    def found(self) -> Counter[Lookup]:
        """Return how many results there are of each lookup."""
        return Counter(_lookup(result) for result in self.results())

    def left(self) -> list[bytes]:
        """Return the keys of messages that are neither in a producer's hands nor done."""
        return [key for pattern in _BETWEEN for key in self._redis.keys(pattern)]

    def count(self) -> Count:
        """Hold what was sent and what came out against each other."""
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

    # --- waiting

    def drain(
        self, patience: float, report: Callable[[int], None], meanwhile: Callable[[], object] = lambda: None
    ) -> float:
        """Wait until all is out, or no result has come for ``patience`` seconds; return the moment of the last one.

        The moment is one of ``time.monotonic``. ``report`` gets how many results there are, whenever there are more.
        """
        seen, last = -1, time.monotonic()
        while True:
            meanwhile()
            out = self.out()
            if out > seen:
                seen, last = out, time.monotonic()
                report(out)
            if out >= len(self.sent) and self._is_complete() and not self.left():
                return last
            if time.monotonic() - last > patience:
                return last
            time.sleep(0.2)

    def settled(self, timeout: float = 30) -> float:
        """Wait until each lookup has one result, and each malformed entry is in quarantine once, and check both.

        Return the seconds until the last lookup had its result.
        """
        begun = time.monotonic()
        until(lambda: True if self._is_complete() else None, timeout)
        took = time.monotonic() - begun
        until(lambda: True if not self.left() else None)
        counted = self.count()
        assert counted.exact, f"not one result of each lookup: {counted}"
        kept = [fields[b"raw"] for _, fields in self._redis.xrange("lookup:quarantine")]
        assert sorted(kept) == sorted(self.malformed), "each malformed entry is in quarantine once"
        return took

    def _is_complete(self) -> bool:
        return self.found().keys() >= self.sent


def _lookup(result: dict[str, Any]) -> Lookup:
    task_id, _, index = result["lookup_id"].rpartition(":")
    return task_id, int(index)
