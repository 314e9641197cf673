"""Which workers there are, as they tell it themselves."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from redis import Redis

#: The ids of the workers that there are; each has a hash under `worker_key`, which expires when it tells no more.
WORKERS: Final = "lookup:workers"
#: Seconds for which a worker's event loop may stand still and the worker still counts as well.
_LONGEST_STILL = 30.0


def worker_key(worker: str) -> str:
    """The hash in which a worker tells how it is."""
    return f"lookup:worker:{worker}"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker. ``still`` is the seconds since its event loop came round; ``messages`` are in its hands."""

    name: str
    host: str
    pid: int
    threads: int
    version: str
    started_at: str
    queues: tuple[str, ...]
    messages: int
    still: float

    @property
    def trouble(self) -> str | None:
        """What is wrong with it; None where nothing is."""
        if not self.queues:
            return "it takes from no queue"
        if self.still > _LONGEST_STILL:
            return f"its event loop has stood still for {self.still:.0f} s"
        return None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "queues": list(self.queues), "trouble": self.trouble}


def workers(redis: Redis) -> list[Worker]:
    """The workers that there are, by name."""
    ids: Any = redis.smembers(WORKERS)
    with redis.pipeline(transaction=False) as pipeline:
        for each in ids:
            pipeline.hgetall(worker_key(each.decode()))
        found = dict(zip(ids, pipeline.execute(), strict=True))
    if gone := [each for each, fields in found.items() if not fields]:
        redis.srem(WORKERS, *gone)
    return sorted((_worker(fields) for fields in found.values() if fields), key=lambda worker: worker.name)


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
    )
