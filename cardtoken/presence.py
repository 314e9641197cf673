"""The workers as they report themselves, and those that have gone silent. Nothing here writes to Redis."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from redis import Redis

from cardtoken import keys

#: The ids of the living workers; each has a hash under `worker_key`, which expires when its reports stop.
WORKERS: Final = keys.WORKERS
#: Hash: worker id → when it last reported, and its name and host. Only a worker that ends in order removes itself.
LAST_REPORTS: Final = keys.LAST_REPORTS
#: Seconds for which a worker that has gone silent is remembered.
REMEMBERED_SECONDS: Final = 86_400.0
#: Seconds without a report after which a worker counts as silent: two reports are missing.
SILENT_AFTER_SECONDS: Final = 12.0
#: Seconds for which a silent worker is reported by itself, and not only with the queues that lack a worker.
_REPORTED_SECONDS: Final = 3_600.0
#: Seconds for which a worker's event loop, or its calls, may make no progress before the worker counts as unwell.
_LONGEST_STILL = 30.0
#: Seconds between a worker's clock and Redis' from which on deadlines are misjudged.
LARGEST_CLOCK_OFFSET_SECONDS: Final = 5.0


def worker_key(worker: str) -> str:
    """Return the key of the hash that holds a worker's report."""
    return keys.worker(worker)


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The latest report of one worker. ``still``: seconds since its event loop last ran; ``messages``: claimed by it.

    ``stalled``: seconds for which it has had work and made no progress; ``clock_offset``: seconds by which its clock is
    ahead of Redis'. Both are None in the reports of earlier releases. ``configuration``: what is wrong with files of
    keys and accounts that changed since it was started, empty if nothing is; ``configured_at``: when it last
    took any up.
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
    configuration: str = ""
    configured_at: str | None = None

    @property
    def trouble(self) -> str | None:
        """Return what is wrong with the worker, or None."""
        if not self.queues:
            return "it takes from no queue"
        if self.still > _LONGEST_STILL:
            return f"its event loop has stood still for {self.still:.0f} s"
        if self.stalled is not None and self.stalled > _LONGEST_STILL:
            return f"it has work and has made no progress for {self.stalled:.0f} s"
        return None

    @property
    def warning(self) -> str | None:
        """Return what an operator should correct although the worker works, or None."""
        warnings = []
        if self.configuration:
            warnings.append(f"it uses its old keys or accounts: {self.configuration}")
        if self.clock_offset is not None and abs(self.clock_offset) >= LARGEST_CLOCK_OFFSET_SECONDS:
            direction = "ahead of" if self.clock_offset > 0 else "behind"
            warnings.append(f"its clock is {abs(self.clock_offset):.0f} s {direction} Redis': set it, by NTP")
        return "; ".join(warnings) or None

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**asdict(self), "queues": list(self.queues), "trouble": self.trouble, "warning": self.warning}


@dataclass(frozen=True, slots=True)
class SilentWorker:
    """A worker that did not end in order and no longer reports. ``reported_at``: Unix time in seconds, Redis' clock."""

    name: str
    host: str
    queues: tuple[str, ...]
    silent_seconds: float
    reported_at: float

    @property
    def trouble(self) -> str:
        """Return what is wrong with the worker."""
        return f"silent for {self.silent_seconds:.0f} s: it is frozen, cut off from Redis, or was killed"

    @property
    def is_recent(self) -> bool:
        """Return whether it is worth reporting by itself."""
        return self.silent_seconds < _REPORTED_SECONDS

    def is_replaced(self, living: Sequence[WorkerReport]) -> bool:
        """Return whether living workers replace it: one of its name, or later ones that consume all its queues."""
        if any(worker.name == self.name for worker in living):
            return True
        later = [worker for worker in living if _seconds(worker.started_at) > self.reported_at]
        return bool(self.queues) and set(self.queues) <= {queue for worker in later for queue in worker.queues}

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**asdict(self), "queues": list(self.queues), "trouble": self.trouble}


@dataclass(frozen=True, slots=True)
class FleetReport:
    """All workers, by name. Silent ones that were replaced are left out. ``at``: Unix time in seconds, Redis' clock."""

    at: float
    living: tuple[WorkerReport, ...]
    silent: tuple[SilentWorker, ...]


def presence(redis: Redis) -> FleetReport:
    """Return the workers that report, and those that have stopped to. Raises ``redis.RedisError``."""
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
    return FleetReport(now, tuple(living), tuple(missing))


def workers(redis: Redis) -> list[WorkerReport]:
    """Return the reports of the living workers, by name. Raises ``redis.RedisError``."""
    return list(presence(redis).living)


def _silent(text: bytes, now: float) -> SilentWorker | None:
    """Return the worker of a last report that is too old; None for a living worker."""
    report = json.loads(text)
    seconds = now - report["at"]
    if not SILENT_AFTER_SECONDS < seconds <= REMEMBERED_SECONDS:
        return None
    return SilentWorker(report["name"], report["host"], tuple(report["queues"]), seconds, report["at"])


def _worker(fields: dict[bytes, bytes]) -> WorkerReport:
    values = {name.decode(): value.decode() for name, value in fields.items()}
    return WorkerReport(
        name=values["name"],
        host=values["host"],
        pid=int(values["pid"]),
        threads=int(values["threads"]),
        version=values["version"],
        started_at=values["started_at"],
        queues=tuple(json.loads(values["queues"])),
        messages=int(values["messages"]),
        still=float(values["still"]),
        stalled=_number(values.get("stalled")),
        clock_offset=_number(values.get("clock_offset")),
        configuration=values.get("configuration", ""),
        configured_at=values.get("configured_at") or None,
    )


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
