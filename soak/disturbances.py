"""Redis is killed and restarted; workers are stopped, and frozen for longer than their leases."""

import signal
import time
from collections.abc import Callable

from sandbox.ledger import Count, Ledger
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from soak.fleet import Fleet
from soak.kills import GOAL, LEASE
from soak.load import half_and_half, moments
from soak.record import Plan, Record

_LATENCY, _CONCURRENCY = 0.1, 6
_PATIENCE = 30.0
#: Seconds for one attempt, and how much longer a worker may take to end.
_TOTAL, _GRACE = 3.0, 5.0


def redis_restarts(plan: Plan) -> Record:
    """Redis is killed and started again, with everything it confirms on disk, while workers drain a backlog."""
    count = plan.of(20)
    with (
        RedisServer(appendonly=True, appendfsync="always") as server,
        Simulator("--latency", str(_LATENCY)) as simulator,
    ):
        service = Service(
            server, simulator, LEASE_SECONDS="10", PROVIDER_CONCURRENCY=str(_CONCURRENCY), RETRY_MAX_ATTEMPTS="20"
        )
        ledger = Ledger(service)
        half_and_half(ledger, plan.of(10_000, 200), plan.chance("work"))
        with Fleet(lambda: WorkerProcess(service.environment), 2) as fleet:
            before = {worker.child.pid for worker in fleet.workers}
            for _ in moments(plan, ledger, count, "restart"):
                server.kill()
                server.start()
            _settled(plan, ledger)
            counted, same = ledger.count(), {worker.child.pid for worker in fleet.ready()} == before
    return Record(
        goal=f"{GOAL}, the same processes",
        passed=counted.exact and same,
        done={"lookups": len(ledger.sent), "restarts": count},
        figures={**_figures(counted), "processes replaced": 0 if same else "yes"},
    )


def stops(plan: Plan) -> Record:
    """Workers are stopped, and frozen for longer than their leases, with lookups waiting to be tried again."""
    terms, freezes = plan.of(100), plan.of(20)
    chance = plan.chance("kinds")
    kinds = [_terminated] * terms + [_frozen] * freezes
    chance.shuffle(kinds)
    with RedisServer() as server, Simulator("--latency", str(_LATENCY)) as simulator:
        service = Service(
            server,
            simulator,
            LEASE_SECONDS=str(LEASE),
            PROVIDER_CONCURRENCY=str(_CONCURRENCY),
            RETRY_MAX_ATTEMPTS="20",
            RETRY_MAX_DELAY="3",
            HTTP_TOTAL_TIMEOUT=str(_TOTAL),
            HTTP_READ_TIMEOUT="2",
        )
        ledger = Ledger(service)
        half_and_half(ledger, plan.of(10_000, 200), plan.chance("work"), tried_again=0.2)
        with Fleet(lambda: WorkerProcess(service.environment), 2) as fleet:
            took = [
                kinds[number](fleet, fleet.any(chance)) for number in moments(plan, ledger, len(kinds), "disturbance")
            ]
            _settled(plan, ledger)
            time.sleep(LEASE + 1)  # a second result would come late
            counted, unexpected = ledger.count(), fleet.unexpected
    slowest = max(took)
    return Record(
        goal=f"{GOAL}, each stop within {_TOTAL + _GRACE:g} s and with status 0",
        passed=counted.exact and not unexpected and slowest <= _TOTAL + _GRACE,
        done={"lookups": len(ledger.sent), "SIGTERMs": terms, "SIGSTOPs": freezes},
        figures={**_figures(counted), "slowest stop in s": round(slowest, 1), "ended badly": len(unexpected)},
    )


def _terminated(fleet: Fleet, worker: WorkerProcess) -> float:
    """Stop it; return the seconds that it took."""
    begun = time.monotonic()
    worker.child.terminate()
    if status := worker.child.wait(60):
        fleet.unexpected.append(f"status {status} after SIGTERM: {worker.log[-300:]}")
    fleet.replace(worker)
    return time.monotonic() - begun


def _frozen(_: Fleet, worker: WorkerProcess) -> float:
    worker.freeze()
    time.sleep(LEASE + 1)
    worker.child.send_signal(signal.SIGCONT)
    return 0.0


def _settled(plan: Plan, ledger: Ledger) -> None:
    total = len(ledger.sent)
    ledger.drain(_PATIENCE, lambda out: plan.progress(min(out, total), total, "draining"))


def _figures(counted: Count) -> dict[str, int | str]:
    return {
        "lost": counted.lost,
        "second results": counted.second,
        "failed lookups": counted.failed,
        "keys left": counted.left,
    }


RUNS: dict[str, Callable[[Plan], Record]] = {"redis-restarts": redis_restarts, "stops": stops}
