"""Counting what came out against what went in."""

import json
import time
from collections import Counter
from typing import Any

from sandbox.service import Service
from sandbox.waiting import until


class Ledger:
    """Lookups that were sent, to be held against the results that are there."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.sent: Counter[tuple[str, int]] = Counter()
        self.malformed: list[bytes] = []

    def send(self, references: list[str], **options: Any) -> str:
        """One message with these OPay references."""
        requests = [{"opay_token": reference} for reference in references]
        task_id = self._service.send("opay", requests, **options)
        self.sent.update((task_id, index) for index in range(len(references)))
        return task_id

    def push_malformed(self, raw: bytes) -> None:
        """One entry that is no message."""
        self._service.redis.lpush("lookup.opay.interactive", raw)
        self.malformed.append(raw)

    def results(self) -> Counter[tuple[str, int]]:
        """How many results there are of each lookup."""
        found: Counter[tuple[str, int]] = Counter()
        for entry in self._service.entries("token-records:default"):
            task_id, _, index = json.loads(entry["result"])["lookup_id"].rpartition(":")
            found[task_id, int(index)] += 1
        return found

    def settled(self, timeout: float = 30) -> float:
        """Wait until each lookup has a result and nothing is left in between; answers the seconds that it took."""
        begun = time.monotonic()
        until(lambda: True if self.results().keys() >= self.sent.keys() else None, timeout)
        took = time.monotonic() - begun
        until(lambda: True if not self.left() else None)
        assert self.results() == self.sent, "each lookup has one result"
        kept = [fields[b"raw"] for _, fields in self._service.redis.xrange("lookup:quarantine")]
        assert sorted(kept) == sorted(self.malformed), "each malformed entry is in quarantine once"
        return took

    def left(self) -> list[bytes]:
        """Keys of messages that are neither waiting nor done."""
        patterns = ("lookup:claim:*", "lookup:leases", "lookup:given-back:*", "lookup:delayed:*", "lookup.*")
        return [key for pattern in patterns for key in self._service.redis.keys(pattern)]
