"""Workers come and go under load, as something that scales them by what waits would have it."""

import time
from collections.abc import Callable

from sandbox.ledger import Ledger
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from soak.fleet import Fleet
from soak.kills import GOAL, LEASE
from soak.load import half_and_half, reached
from soak.record import Plan, Record

_LATENCY, _CONCURRENCY = 0.1, 12
_FEWEST, _MOST = 1, 4
#: Lookups that wait at least whenever workers are added or stopped, and that are answered in between; least of each.
_LOAD, _BETWEEN = (400, 200), (150, 75)
_PATIENCE = 30.0
#: Seconds for one attempt, and how much longer a worker may take to end.
_TOTAL, _GRACE = 3.0, 5.0


def scale(plan: Plan) -> Record:
    """Workers are scaled from 1 to 4 and back by SIGTERM, again and again, while producers push."""
    waves, load, between = plan.of(25), plan.of(*_LOAD), plan.of(*_BETWEEN)
    chance = plan.chance("work")
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

        def keep_loaded() -> None:
            if len(ledger.sent) - ledger.out() < load:
                half_and_half(ledger, load, chance, tried_again=0.1)

        def under_load(doing: str) -> None:
            keep_loaded()
            mark = ledger.out() + between
            reached(ledger, mark, lambda out: plan.progress(out, len(ledger.sent), doing))
            keep_loaded()

        keep_loaded()
        slowest = 0.0
        with Fleet(lambda: WorkerProcess(service.environment), _FEWEST) as fleet:
            for wave in range(waves):
                under_load(f"one worker, {wave} of {waves}")
                fleet.grow(_MOST)
                under_load(f"four workers, {wave} of {waves}")
                slowest = max(slowest, _shrunk(fleet))
            total = len(ledger.sent)
            ledger.drain(_PATIENCE, lambda out: plan.progress(min(out, total), total, "draining"))
            time.sleep(LEASE + 1)  # a second result would come late
            counted, unexpected, taken_over = ledger.count(), fleet.unexpected, fleet.taken_over
    return Record(
        goal=f"{GOAL}, each stop within {_TOTAL + _GRACE:g} s and with status 0, nothing to take over",
        passed=counted.exact and not unexpected and not taken_over and slowest <= _TOTAL + _GRACE,
        done={"lookups": total, "times 1 → 4 → 1": waves, "SIGTERMs": waves * (_MOST - _FEWEST)},
        figures={
            "lost": counted.lost,
            "second results": counted.second,
            "failed lookups": counted.failed,
            "keys left": counted.left,
            "messages taken over": taken_over,
            "ended badly": len(unexpected),
            "slowest stop in s": round(slowest, 1),
        },
    )


def _shrunk(fleet: Fleet) -> float:
    """Stop all but one at once, the oldest first; return the seconds until the last one has ended."""
    begun = time.monotonic()
    stopped = fleet.release(_MOST - _FEWEST)
    for worker in stopped:
        worker.child.terminate()
    for worker in stopped:
        if status := worker.child.wait(60):
            fleet.unexpected.append(f"status {status} after SIGTERM: {worker.log[-300:]}")
    return time.monotonic() - begun


RUNS: dict[str, Callable[[Plan], Record]] = {"scale": scale}
