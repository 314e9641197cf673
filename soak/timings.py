"""How soon: a dead worker's messages are taken over, an idle worker takes a message, and twenty of them together."""

import time
import uuid
from collections.abc import Callable, Sequence
from statistics import median

import psutil

from sandbox.ledger import Ledger
from sandbox.messages import entry, queue_of, raw, requests_of
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until
from soak.fleet import Fleet
from soak.provider import Clock, serving
from soak.record import Plan, Record, quantile

_LEASE = 5.0
_QUEUES = [(provider, lane) for provider in ("opay", "afterpay") for lane in ("interactive", "bulk")]
_HERD = 20


def takeover(plan: Plan) -> Record:
    """A worker dies in the middle of a message, and another one, idle, takes it over."""
    trials, took = plan.of(10), []
    with RedisServer() as server, Simulator() as simulator:
        service = Service(server, simulator, LEASE_SECONDS=str(_LEASE))
        for trial in range(trials):
            plan.progress(trial, trials, "taking over")
            ledger, reference = Ledger(service), f"slow-5~{plan.seed}-{trial}"
            service.redis.delete("token-records:default")
            victim = WorkerProcess(service.environment).ready()
            try:
                ledger.push([ledger.prepare("opay", [reference], "interactive")])
                until(lambda: service.redis.zcard("lookup:leases") or None)
                with service.worker():
                    victim.child.kill()
                    died = time.time()
                    ledger.drain(30, lambda _: None)
            finally:
                victim.child.kill()
            seen = service.simulator.stats(f"OPAY_TOKEN_{reference}")["by_reference"][f"OPAY_TOKEN_{reference}"]
            took.append(seen["at"][1] - died)
    return Record(
        goal=f"under the lease of {_LEASE:g} s + 5 s",
        passed=max(took) < _LEASE + 5,
        done={"deaths": trials},
        figures={"median s": round(median(took), 1), "longest s": round(max(took), 1)},
    )


def idle(plan: Plan) -> Record:
    """One idle worker consumes four queues: how soon it takes a message of each, and what it costs to wait."""
    count, clock = plan.of(50, 5), Clock()
    with RedisServer() as server, serving(clock.answer) as provider, Simulator() as simulator:
        service = _timed(server, simulator, provider.url)
        with service.worker("-c", "8") as worker:
            figures: dict[str, float] = {}
            for name, lane in _QUEUES:
                plan.progress(len(figures), len(_QUEUES), f"{name} {lane}")
                took = _pickups(service, clock, [(name, lane)] * (count + 3), 0.05)[3:]
                figures[f"{name} {lane} median ms"] = round(median(took) * 1000, 1)
            slowest = max(figures.values())
            plan.progress(len(_QUEUES), len(_QUEUES), "waiting")
            process, seconds = psutil.Process(worker.child.pid), plan.of(15, 3)
            before = _cpu(process)
            time.sleep(seconds)
            share = (_cpu(process) - before) / seconds * 100
    return Record(
        goal="median under 10 ms on each queue, waiting under 1 % of a core",
        passed=slowest < 10 and share < 1,
        done={"messages a queue": count},
        figures={**figures, "waiting % of a core": round(share, 2)},
    )


def herd(plan: Plan) -> Record:
    """Twenty idle workers on one queue against one: what they cost each other and Redis."""
    figures: dict[str, float] = {}
    count = plan.of(50, 10)
    passed = True
    for size in (1, max(2, min(_HERD, plan.of(_HERD)))):
        plan.progress(size, _HERD, f"{size} workers")
        clock = Clock()
        with RedisServer() as server, serving(clock.answer) as provider, Simulator() as simulator:
            service = _timed(server, simulator, provider.url)
            options = ("-c", "2", "--without-gossip", "-Q", "lookup.opay.interactive")
            with Fleet(lambda: WorkerProcess(service.environment, *options), size) as fleet:  # noqa: B023 - left before the next
                time.sleep(3)
                processes = [psutil.Process(worker.child.pid) for worker in fleet.workers]
                redis = psutil.Process(server.pid)
                seconds = plan.of(10, 3)
                before, redis_before = sum(map(_cpu, processes)), _cpu(redis)
                time.sleep(seconds)
                idle_share = (sum(map(_cpu, processes)) - before) / seconds * 100
                redis_share = (_cpu(redis) - redis_before) / seconds * 100
                before, begun = sum(map(_cpu, processes)), time.monotonic()
                took = _pickups(service, clock, [("opay", "interactive")] * count, 0.2)
                spent = sum(map(_cpu, processes)) - before
                busy = spent - idle_share / 100 * (time.monotonic() - begun)
                results = until(lambda: _when(service, count), 20)  # noqa: B023 - called here
        passed &= results == count and median(took) < 0.02
        figures |= {
            f"{size}: median ms": round(median(took) * 1000, 1),
            f"{size}: p95 ms": round(quantile(took, 0.95) * 1000, 1),
            f"{size}: idle % of a core, all workers": round(idle_share, 1),
            f"{size}: idle % of a core, Redis": round(redis_share, 2),
            f"{size}: CPU ms a message": round(max(0.0, busy) / count * 1000, 1),
        }
    return Record(
        goal="each message answered once, median under 20 ms",
        passed=passed,
        done={"workers": _HERD, "messages": count},
        figures=figures,
    )


def _when(service: Service, count: int) -> int | None:
    found = int(service.redis.xlen("token-records:default"))
    return found if found >= count else None


def _timed(server: RedisServer, simulator: Simulator, url: str) -> Service:
    return Service(server, simulator, OPAY_BASE_URL=url, AFTERPAY_BASE_URL=url)


def _pickups(service: Service, clock: Clock, pushes: Sequence[tuple[str, str]], pause: float) -> list[float]:
    """Seconds from each push to the provider's sight of the call."""
    took = []
    for provider, lane in pushes:
        request = requests_of(provider, [uuid.uuid4().hex])[0]
        (reference,) = request.values()
        time.sleep(pause)
        pushed = time.perf_counter()
        service.redis.lpush(queue_of(provider, lane), raw(entry(provider, str(uuid.uuid4()), [request], lane=lane)))
        until(lambda: clock.seen.get(reference), pause=0.001)  # noqa: B023 - called here
        took.append(clock.seen[reference] - pushed)
    return took


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


RUNS: dict[str, Callable[[Plan], Record]] = {"takeover": takeover, "idle": idle, "herd": herd}
