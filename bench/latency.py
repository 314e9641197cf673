"""What the service adds to a lookup that a caller waits for: idle, busy, and beside a bulk backlog."""

import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from bench.machine import OTHER_CORE, WORKER_CORE, Stage, pin, stage
from bench.progress import ReportProgress
from bench.throughput import LATENCY
from cardtoken.contract import Lane
from cardtoken.message import message_of, prepared
from sandbox.processes import Child, wait_for_line
from sandbox.service import Simulator
from soak.record import quantile

_QUEUE: Final = "lookup.opay.interactive"
_STREAM: Final = "token-records:bench"
_BACKLOG: Final = 100_000


def latency(scale: float, report: ReportProgress) -> dict[str, Any]:
    """Milliseconds from LPUSH to the result's reading, less the provider's own, by situation: all of them, in order."""
    seconds = max(1.0, 20 * scale)
    situations = [("idle", 25, 0), ("200 a second", 200, 0), ("100,000 bulk waiting", 25, _BACKLOG)]
    found: dict[str, Any] = {}
    for place, (name, rate, backlog) in enumerate(situations):
        report(place, len(situations), f"interactive, {name}")
        # A provider for each lane: that one which is busy answers later is its own time, and not our overhead.
        with stage(LATENCY) as on, Simulator("--latency", str(LATENCY)) as shoppers:
            pin(shoppers.child.pid, WORKER_CORE | OTHER_CORE)
            found[name] = _measured(on, shoppers.url, rate, int(backlog * min(1.0, scale)), seconds)
    return found


def _measured(on: Stage, provider: str, rate: float, backlog: int, seconds: float) -> dict[str, Any]:
    workers = [_worker(on, Lane.INTERACTIVE, OPAY_BASE_URL=provider), _worker(on, Lane.BULK)]
    try:
        for worker in workers:
            wait_for_line(worker, r" ready\.", 60)
            # Both lanes' workers on both cores, with Redis and the provider, as on one small machine.
            pin(worker.pid, WORKER_CORE | OTHER_CORE)
        if backlog:
            fill(on, backlog)
            time.sleep(2)
        _ask(on, 20, 20)  # connections and threads are there
        took = _ask(on, rate, int(rate * seconds))
        left = on.redis.llen("lookup.opay.bulk")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(10)
    overhead = [1000 * (each - LATENCY) for each in took]
    return {
        "p50": round(quantile(overhead, 0.5), 1),
        "p95": round(quantile(overhead, 0.95), 1),
        "p99": round(quantile(overhead, 0.99), 1),
        "bulk_left": left,
        "all": [round(each, 2) for each in overhead],
    }


def _worker(on: Stage, lane: Lane, **environment: str) -> Child:
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-l", "INFO", "-n", f"{lane}@bench",
               "-Q", f"lookup.opay.{lane}", "--without-mingle"]  # fmt: skip
    return on.start(command, **environment)


def fill(on: Stage, count: int) -> None:
    """Push so many bulk lookups, in lists of 100."""
    now = datetime.now(UTC)
    for first in range(0, count, 5_000):
        pipeline = on.redis.pipeline(transaction=False)
        for start in range(first, min(count, first + 5_000), 100):
            requests = [prepared({"opay_token": f"OPAY_TOKEN_visa~b-{start + n}"}, now) for n in range(100)]
            pipeline.lpush("lookup.opay.bulk", message_of(requests, Lane.BULK, str(uuid.uuid4())).entry)
        pipeline.execute()


def _ask(on: Stage, rate: float, count: int) -> list[float]:
    """Ask so many at that rate; seconds that each took."""
    sent: dict[bytes, float] = {}
    got: dict[bytes, float] = {}
    on.redis.delete(_STREAM)

    def read() -> None:
        last: Any = "0"
        while len(got) < count:
            for _, entries in on.redis.xread({_STREAM: last}, block=5_000) or ():
                now = time.perf_counter()
                for last, fields in entries:  # noqa: B007 - where to read on
                    got[fields[b"lookup_id"]] = now

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    begun = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        name = f"bench-{uuid.uuid4().hex[:12]}"
        request = prepared(
            {"opay_token": f"OPAY_TOKEN_visa~{name}", "lookup_id": name, "reply_to": "bench"}, datetime.now(UTC)
        )
        entry = message_of([request], Lane.INTERACTIVE, str(uuid.uuid4())).entry
        sent[name.encode()] = time.perf_counter()
        on.redis.lpush(_QUEUE, entry)
    reader.join(60)
    return [got[name] - at for name, at in sent.items() if name in got]
