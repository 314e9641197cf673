"""Every connection to Redis goes silent, again and again, under work."""

import time
import uuid
from typing import Final

from sandbox.faulty_proxy import FaultyProxy
from sandbox.ledger import Ledger
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until
from soak.fleet import Fleet
from soak.kills import GOAL
from soak.load import half_and_half, reached
from soak.record import Plan, Record

_LATENCY, _CONCURRENCY = 0.1, 6
_PATIENCE: Final = 60.0
#: Seconds within which work goes on.
PROMISED: Final = 20.0


def silent(plan: Plan) -> Record:
    """Every connection to Redis goes silent while workers drain a backlog; new ones work."""
    times = plan.of(5)
    with (
        RedisServer() as server,
        Simulator("--latency", str(_LATENCY)) as simulator,
        FaultyProxy(server.port or 0) as way,
    ):
        service = Service(server, simulator, PROVIDER_CONCURRENCY=str(_CONCURRENCY), RETRY_MAX_ATTEMPTS="20")
        ledger = Ledger(service)
        half_and_half(ledger, plan.of(5_000, 200), plan.chance("work"))
        total, chance, took, silenced = len(ledger.sent), plan.chance("silence"), [], 0
        with Fleet(lambda: WorkerProcess({**service.environment, "REDIS_URL": way.url}), 2) as fleet:
            before = {worker.child.pid for worker in fleet.ready()}
            for number in range(times):
                mark = total * (number + chance.random()) / (times + 1)
                reached(ledger, mark, lambda out, number=number: plan.progress(out, total, f"silence {number}"))  # type: ignore[misc]
                silenced += way.silence()
                took.append(_answered(service, ledger))
            ledger.drain(_PATIENCE, lambda out: plan.progress(min(out, total), total, "draining"))
            counted, same = ledger.count(), {worker.child.pid for worker in fleet.ready()} == before
    return Record(
        goal=f"{GOAL}, the same processes, work goes on within {PROMISED:g} s",
        passed=counted.exact and same and max(took) <= PROMISED,
        done={"lookups": len(ledger.sent), "silences": times, "connections": silenced},
        figures={
            "lost": counted.lost,
            "second results": counted.second,
            "failed lookups": counted.failed,
            "keys left": counted.left,
            "processes replaced": 0 if same else "yes",
            "longest until a shopper was answered s": round(max(took), 1),
        },
    )


def _answered(service: Service, ledger: Ledger) -> float:
    """Send one interactive lookup; returns the seconds until its result is there."""
    begun, reply_to = time.monotonic(), f"reply.{uuid.uuid4().hex}"
    task_id, [asked] = ledger.sending("opay", [uuid.uuid4().hex])
    ledger.sent.discard((task_id, 0))  # its result goes elsewhere
    service.send("opay", [{**asked, "reply_to": reply_to}], task_id=task_id)
    until(lambda: service.redis.xlen(f"token-records:{reply_to}") or None, _PATIENCE)
    return time.monotonic() - begun


RUNS: Final = {"silent": silent}
