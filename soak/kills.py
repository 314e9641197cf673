"""Workers are killed: at random moments, hundreds of times; and at each fault point."""

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.environment import ROOT
from sandbox.ledger import Ledger
from sandbox.messages import entry, queue_of, raw
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from soak.fleet import Fleet
from soak.load import half_and_half, moments
from soak.record import Plan, Record
from soak.stock import StockWorker, redis_plus
from tasks.crash_points import POINTS

LOOKUPS, KILLS, WORKERS = 20_000, 200, 3
LEASE = 2.0
#: Seconds that a provider takes, and calls that a worker makes at once: work lasts as long as the kills do.
_LATENCY, _CONCURRENCY = 0.1, 6
#: Seconds without a result after which what is missing counts as lost.
_PATIENCE = 30.0
#: The same where a message of a dead worker comes back after this many seconds at the earliest; every job is shorter.
_VISIBILITY = 10.0
_PATIENCE_STOCK = 330.0
GOAL = "0 lost, 0 second results"


def kills(plan: Plan) -> Record:
    """Workers are killed at random moments while they drain a backlog."""
    with RedisServer() as server, Simulator("--latency", str(_LATENCY)) as simulator:
        service = Service(
            server,
            simulator,
            LEASE_SECONDS=str(LEASE),
            PROVIDER_CONCURRENCY=str(_CONCURRENCY),
            RETRY_MAX_ATTEMPTS="20",
            DELIVERY_LIMIT="100",  # no worker dies of a message here
        )
        ledger = Ledger(service)
        half_and_half(ledger, plan.of(LOOKUPS, 20), plan.chance("work"))
        fleet = Fleet(lambda: WorkerProcess(service.environment), WORKERS)
        return _drain(plan, ledger, fleet, patience=_PATIENCE, goal=GOAL)


def kills_stock(plan: Plan, patience: float = _PATIENCE_STOCK) -> Record:
    """The same with what a competent engineer would write on stock Celery."""
    with RedisServer() as server, Simulator("--latency", str(_LATENCY)) as simulator:
        service = _stock_service(server, simulator)
        ledger = Ledger(service)
        half_and_half(ledger, plan.of(LOOKUPS, 20), plan.chance("work"))
        fleet = Fleet(lambda: StockWorker(service.environment), WORKERS)
        return _drain(plan, ledger, fleet, patience=patience, goal=None)


def kills_redis_plus(plan: Plan) -> Record:
    """The same with the same tasks on celery-redis-plus, where Python 3.13 is at hand."""
    with (
        redis_plus() as (python, transport),
        RedisServer() as server,
        Simulator("--latency", str(_LATENCY)) as simulator,
        tempfile.TemporaryDirectory() as folder,
    ):
        service = _stock_service(server, simulator, **transport)
        ledger, file = Ledger(service), Path(folder, "messages")
        half_and_half(ledger, plan.of(LOOKUPS, 20), plan.chance("work"), push=lambda sent: _write(sent, file))
        # Its queues are not lists, so its own client has to push.
        command = [python, "-m", "soak.stock_worker", "push", str(file)]
        subprocess.run(command, cwd=ROOT, env=service.environment, timeout=600, check=True)
        fleet = Fleet(lambda: StockWorker(service.environment, python), WORKERS)
        return _drain(plan, ledger, fleet, patience=_PATIENCE_STOCK, goal=None)


def _stock_service(server: RedisServer, simulator: Simulator, **more: str) -> Service:
    return Service(server, simulator, VISIBILITY_TIMEOUT=str(_VISIBILITY), STOCK_CONCURRENCY=str(_CONCURRENCY), **more)


def _write(messages: list[tuple[str, str, list[dict[str, str]]]], file: Path) -> None:
    rows = [[f"lookup.{name}", task_id, queue_of(name, "bulk"), asked] for name, task_id, asked in messages]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def _drain(plan: Plan, ledger: Ledger, fleet: Fleet, *, patience: float, goal: str | None) -> Record:
    count, chance, total = plan.of(KILLS), plan.chance("victims"), len(ledger.sent)
    with fleet:
        begun = time.monotonic()
        for _ in moments(plan, ledger, count, "kill"):
            fleet.kill(fleet.any(chance))
        last = ledger.drain(patience, lambda out: plan.progress(min(out, total), total, "draining"), fleet.ready)
        time.sleep(LEASE + 1)  # a second result would come late
        counted, taken_over, unexpected = ledger.count(), fleet.taken_over, fleet.unexpected
    figures = {
        "lost": counted.lost,
        "second results": counted.second,
        "failed lookups": counted.failed,
        "workers that ended by themselves": len(unexpected),
        "drained in s": round(last - begun, 1),
    }
    if goal is not None:
        figures |= {"messages taken over": taken_over, "keys left": counted.left}
    return Record(
        goal=goal or "none: for comparison",
        passed=None if goal is None else counted.exact and not unexpected,
        done={"lookups": total, "SIGKILLs": count, "workers": WORKERS},
        figures=figures,
    )


def fault_points(plan: Plan) -> Record:
    """A worker is killed at each point of the code that a test may kill it at, with work that passes them all."""
    lost = second = left = missed = 0
    slowest = 0.0
    rounds = plan.of(3)
    with Simulator() as simulator:
        for number in range(rounds):
            for nth, point in enumerate(POINTS):
                plan.progress(number * len(POINTS) + nth, rounds * len(POINTS), f"killed when {point}")
                with RedisServer(appendonly=True, appendfsync="always") as server:
                    service = Service(server, simulator, LEASE_SECONDS="1.5")
                    ledger = Ledger(service)
                    at = plan.chance(point, number).randint(1, 3)
                    victim = WorkerProcess({**service.environment, "FAULT_POINT": f"{point}:{at}"}).ready()
                    try:
                        _varied(ledger, f"{plan.seed}-{point}-{number}")
                        missed += victim.child.wait(30) != -signal.SIGKILL
                    finally:
                        victim.child.kill()
                    with service.worker():
                        begun = time.monotonic()
                        slowest = max(slowest, ledger.drain(15, lambda _: None) - begun)
                    counted = ledger.count()
                    lost, second, left = lost + counted.lost, second + counted.second, left + counted.left
    return Record(
        goal=GOAL,
        passed=not (lost or second or left or missed),
        done={"fault points": len(POINTS), "rounds": rounds},
        figures={
            "lost": lost,
            "second results": second,
            "points not reached": missed,
            "slowest in s": round(slowest, 1),
        },
    )


def _varied(ledger: Ledger, name: str) -> None:
    """Messages that pass every point: single, in lists, tried again, delayed; and entries that are not messages."""
    later = {"eta": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 1))}
    for number in range(3):
        tag = f"{name}-{number}"
        mixed = [f"{kind}~{tag}" for kind in ("visa", "timeout-1", "not-found", "amex", "slow-0.2")]
        for references in ([f"visa~{tag}"], mixed, [f"timeout-2~{tag}"], [f"code-20000~{tag}"]):
            queue, data = ledger.prepare("opay", references)
            ledger.push([(queue, f"no message {tag}".encode()), (queue, data)])
        task_id, asked = ledger.sending("opay", [f"visa~{tag}-later"])
        delayed = entry("opay", task_id, asked)
        delayed["headers"] |= later
        ledger.push([(queue_of("opay", "bulk"), raw(delayed))])


RUNS: dict[str, Callable[[Plan], Record]] = {
    "kills": kills,
    "kills-stock": kills_stock,
    "kills-redis-plus": kills_redis_plus,
    "fault-points": fault_points,
}
