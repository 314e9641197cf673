"""Which workers there are, as they say themselves, and which of them have gone silent. Nothing here writes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from redis import Redis

#: The ids of the workers that there are; each has a hash under `worker_key`, which expires when it reports no more.
WORKERS: Final = "lookup:workers"
#: Hash: worker id → when it reported last, and who it is. Only a worker that ends in order removes itself.
LAST_REPORTS: Final = "lookup:workers:last-reports"
#: Seconds for which a worker that has gone silent is remembered.
REMEMBERED_SECONDS: Final = 86_400.0
#: Seconds without a report after which a worker counts as silent: two reports are missing.
SILENT_AFTER_SECONDS: Final = 12.0
#: Seconds for which a silent worker is reported for its own sake, and not only for the queues that it leaves alone.
_REPORTED_SECONDS: Final = 3_600.0
#: Seconds for which a worker's event loop may stand still, or its calls make no progress, and it still counts as well.
_LONGEST_STILL = 30.0
#: Seconds between a worker's clock and Redis' from which on deadlines are misjudged.
LARGEST_CLOCK_OFFSET_SECONDS: Final = 5.0


def worker_key(worker: str) -> str:
    """The hash in which a worker says how it is."""
    return f"lookup:worker:{worker}"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker. ``still`` is the seconds since its event loop came round; ``messages`` are in its hands.

    ``stalled``: seconds for which it has had work and made no progress; ``clock_offset``: seconds by which its clock is
    ahead of Redis'. Both are None where a worker of an earlier release does not say.
    """

    name: str
    host: str
    pid: int
    threads: int
    version: str
    started_at: str
    queues: tuple[str, ...]
    messages: int
    still: float
    stalled: float | None = None
    clock_offset: float | None = None

    @property
    def trouble(self) -> str | None:
        """What is wrong with it; None where nothing is."""
        if not self.queues:
            return "it takes from no queue"
        if self.still > _LONGEST_STILL:
            return f"its event loop has stood still for {self.still:.0f} s"
        if self.stalled is not None and self.stalled > _LONGEST_STILL:
            return f"it has work and has made no progress for {self.stalled:.0f} s"
        return None

    @property
    def warning(self) -> str | None:
        """What somebody should look at although it works; None where nothing is."""
        if self.clock_offset is None or abs(self.clock_offset) < LARGEST_CLOCK_OFFSET_SECONDS:
            return None
        direction = "ahead of" if self.clock_offset > 0 else "behind"
        return f"its clock is {abs(self.clock_offset):.0f} s {direction} Redis': set it, by NTP"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "queues": list(self.queues), "trouble": self.trouble, "warning": self.warning}


@dataclass(frozen=True, slots=True)
class SilentWorker:
    """A worker that did not end in order and reports no more. ``reported_at`` is in seconds, by Redis' clock."""

    name: str
    host: str
    queues: tuple[str, ...]
    silent_seconds: float
    reported_at: float

    @property
    def trouble(self) -> str:
        """What is wrong with it."""
        return f"silent for {self.silent_seconds:.0f} s: it is frozen, cut off from Redis, or was killed"

    @property
    def is_recent(self) -> bool:
        """Whether it is worth reporting by itself."""
        return self.silent_seconds < _REPORTED_SECONDS

    def is_replaced(self, living: Sequence[Worker]) -> bool:
        """Whether living workers have taken its place: one of its name, or ones started since for all its queues."""
        if any(worker.name == self.name for worker in living):
            return True
        later = [worker for worker in living if _seconds(worker.started_at) > self.reported_at]
        return bool(self.queues) and set(self.queues) <= {queue for worker in later for queue in worker.queues}

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "queues": list(self.queues), "trouble": self.trouble}


@dataclass(frozen=True, slots=True)
class Presence:
    """All workers, by name. A silent one whose place others have taken is left out. ``at``: seconds, Redis' clock."""

    at: float
    living: tuple[Worker, ...]
    silent: tuple[SilentWorker, ...]


def presence(redis: Redis) -> Presence:
    """The workers that report, and those that did. Raises ``redis.RedisError``."""
    ids: Any = redis.smembers(WORKERS)
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hgetall(LAST_REPORTS)
        for each in ids:
            pipeline.hgetall(worker_key(each.decode()))
        (seconds, micros), reports, *hashes = pipeline.execute()
    now = seconds + micros / 1_000_000
    silent = {worker: found for worker, text in reports.items() if (found := _silent(text, now))}
    present = zip(ids, hashes, strict=True)
    living = sorted(
        (_worker(fields) for worker, fields in present if fields and worker not in silent), key=lambda each: each.name
    )
    missing = sorted((each for each in silent.values() if not each.is_replaced(living)), key=lambda each: each.name)
    return Presence(now, tuple(living), tuple(missing))


def workers(redis: Redis) -> list[Worker]:
    """The workers that report, by name. Raises ``redis.RedisError``."""
    return list(presence(redis).living)


def _silent(text: bytes, now: float) -> SilentWorker | None:
    """The worker of a last report that is too old; None for one that reports."""
    report = json.loads(text)
    seconds = now - report["at"]
    if not SILENT_AFTER_SECONDS < seconds <= REMEMBERED_SECONDS:
        return None
    return SilentWorker(report["name"], report["host"], tuple(report["queues"]), seconds, report["at"])


def _worker(fields: dict[bytes, bytes]) -> Worker:
    told = {name.decode(): value.decode() for name, value in fields.items()}
    return Worker(
        name=told["name"],
        host=told["host"],
        pid=int(told["pid"]),
        threads=int(told["threads"]),
        version=told["version"],
        started_at=told["started_at"],
        queues=tuple(json.loads(told["queues"])),
        messages=int(told["messages"]),
        still=float(told["still"]),
        stalled=_number(told.get("stalled")),
        clock_offset=_number(told.get("clock_offset")),
    )


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
