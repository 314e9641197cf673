"""A provider that is dead, half well, or slow to hang; and limits that the whole fleet has to keep."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final
from uuid import uuid4

import psutil

from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until
from soak.record import Plan, Record, quantile

_LATENCY: Final = 0.05
_PATIENCE: Final = 300.0


def outage(plan: Plan) -> Record:
    """OPay is dead for a minute, with a backlog of bulk lookups, and shoppers who go on asking."""
    count, seconds = plan.of(20_000, 500), max(9.0, 60.0 * min(1.0, plan.scale))
    with _service(BULK_DEADLINE="3600") as (service, stack):
        bulk = stack(service, "-Q", "lookup.opay.bulk")
        stack(service, "-Q", "lookup.opay.interactive")
        # A worker that is at work: with all of its threads, which take most of its memory.
        warm = plan.of(8_000, 1_000)
        _sent(service, ["visa"] * warm)
        until(lambda: True if _done(service) >= warm else None, 60)
        before = _memory(bulk)
        first = _asked(service)
        service.simulator.behave(opay="down")
        _sent(service, ["visa"] * count, first=warm)
        shoppers = _Shoppers(service, every=0.2)
        asked: list[int] = []
        largest, end = before, time.monotonic() + seconds
        while time.monotonic() < end:
            asked.append(_asked(service))
            largest = max(largest, _memory(bulk))
            plan.progress(seconds - (end - time.monotonic()), seconds, "the provider is dead")
            time.sleep(1)
        waits = shoppers.end()
        service.simulator.behave(opay="normal")
        back = time.monotonic()
        until(lambda: True if _done(service) > warm else None, 60, 0.05)
        resumed = time.monotonic() - back
        until(lambda: _told(plan, _done(service), count + warm), _PATIENCE, 0.5)
        statuses = Counter(result["status"] for result in _results(service, "default"))
        second = sum(statuses.values()) - len({result["lookup_id"] for result in _results(service, "default")})
    # From the sixth second on: until then the calls that were under way when it died come back and open the circuit.
    calls = [late - early for early, late in pairwise(asked[5:])]
    unavailable = Counter(status for status, _ in waits)
    lately = [wait for _, wait in waits[len(waits) // 5 :]]
    return Record(
        goal="1 call a second at most while open, 20 MB, every lookup found afterwards, interactive under 0.1 s",
        passed=max(calls) <= 1
        and largest - before < 20
        and statuses == Counter(found=count + warm)
        and not second
        and quantile(lately, 0.5) < 0.1,
        done={"bulk lookups": count, "seconds dead": round(seconds), "interactive": len(waits)},
        figures={
            "most calls in a second": max(calls),
            "calls to the dead provider": asked[-1] - first,
            "memory grew by MB": round(largest - before, 1),
            "bulk": dict_text(statuses),
            "first result after its return, s": round(resumed, 1),
            "interactive": dict_text(unavailable),
            "interactive median, ms": round(1000 * quantile(lately, 0.5), 1),
            "interactive p99, ms": round(1000 * quantile(lately, 0.99), 1),
        },
    )


def hanging(plan: Plan) -> Record:
    """One provider hangs, and the other keeps its throughput, where one worker serves both."""
    count = plan.of(20_000, 1_000)

    def rate(*, opay_hangs: bool) -> float:
        with _service(HTTP_READ_TIMEOUT="10", HTTP_TOTAL_TIMEOUT="15") as (service, stack):
            stack(service)
            if opay_hangs:
                service.simulator.behave(opay="hang")
                for _ in range(100):
                    service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}] * 20, lane="bulk")
                time.sleep(3)
            begun = time.monotonic()
            requests = [{"original_request_id": "visa", "reply_to": "well"}] * 20
            for _ in range(count // 20):
                service.send("afterpay", requests, lane="bulk")
            until(lambda: _told(plan, service.redis.xlen("token-records:well"), count), _PATIENCE, 0.05)
            return count / (time.monotonic() - begun)

    alone, beside = rate(opay_hangs=False), rate(opay_hangs=True)
    return Record(
        goal="the healthy one keeps 90 % of its throughput",
        passed=beside >= 0.9 * alone,
        done={"lookups": count},
        figures={
            "alone, a second": round(alone),
            "beside a hanging one": round(beside),
            "share": round(beside / alone, 2),
        },
    )


def rate_limit(plan: Plan) -> Record:
    """Three workers keep to 50 calls a second, with a backlog of bulk and ten interactive lookups a second."""
    seconds = max(5.0, 30.0 * plan.scale)
    with _service(OPAY_RATE_LIMIT="50/s") as (service, stack):
        for _ in range(3):
            stack(service)
        names = [f"visa~rate-{number}" for number in range(int(60 * seconds))]
        _sent(service, names)
        shoppers = _Shoppers(service, every=0.1)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            plan.progress(seconds - (end - time.monotonic()), seconds, "limited to 50 a second")
            time.sleep(0.5)
        waits = shoppers.end()
        times = sorted(_times(service, [*names, *shoppers.names]))
    most = max(sum(at <= other < at + 1 for other in times[i : i + 100]) for i, at in enumerate(times))
    mean = len(times) / (times[-1] - times[0])
    slowest = max(wait for _, wait in waits) - _LATENCY
    return Record(
        goal="at most 55 in any second, no interactive lookup waits more than a second",
        passed=most <= 55 and slowest <= 1,
        done={"seconds": round(seconds), "interactive": len(waits)},
        figures={
            "most in a second": most,
            "mean": round(mean, 1),
            "interactive waited at most, s": round(slowest, 2),
            "median, s": round(quantile([wait for _, wait in waits], 0.5) - _LATENCY, 2),
        },
    )


def half_well(plan: Plan) -> Record:
    """A provider fails every second call for a minute; the circuit opens and closes, and every lookup ends."""
    count, seconds = plan.of(5_000, 200), max(6.0, 60.0 * min(1.0, plan.scale))
    with _service(RETRY_MAX_ATTEMPTS="10", RETRY_MAX_DELAY="2") as (service, stack):
        worker = stack(service)
        service.simulator.behave(opay="flaky")
        _sent(service, [f"visa~half-{number}" for number in range(count)])
        end = time.monotonic() + seconds
        while time.monotonic() < end and _done(service) < count:
            plan.progress(seconds - (end - time.monotonic()), seconds, "every second call fails")
            time.sleep(0.5)
        service.simulator.behave(opay="normal")
        until(lambda: _told(plan, _done(service), count), _PATIENCE, 0.5)
        results = _results(service, "default")
        log = worker.log
    statuses = Counter(f"{each['status']} {(each['error'] or {}).get('category', '')}".strip() for each in results)
    opened = log.count("circuit opay:default is open")
    return Record(
        goal="the circuit opens and closes, every lookup is found or failed as unavailable, once",
        passed=set(statuses) <= {"found", "failed unavailable"}
        and len(results) == len({each["lookup_id"] for each in results}) == count
        and opened > 0
        and log.count("circuit opay:default is closed") > 0,
        done={"lookups": count, "seconds": round(seconds)},
        figures={"opened": opened, "results": dict_text(statuses)},
    )


def dict_text(counts: Counter[str]) -> str:
    """As in: 20 found, 3 failed."""
    return ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "none"


class _Shoppers:
    """Interactive lookups, one after the other at a steady pace, and how long each took to its result."""

    def __init__(self, service: Service, every: float) -> None:
        self._service = service
        self._every = every
        self._stop = threading.Event()
        self._sent: dict[str, float] = {}
        self._got: dict[str, tuple[str, float]] = {}
        self.names: list[str] = []
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._read)]
        for thread in self._threads:
            thread.start()

    def end(self) -> list[tuple[str, float]]:
        """Status and seconds of each, in their order."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return [self._got[name] for name in self._sent]

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(self._every):
            name = f"visa~shopper-{uuid4().hex[:6]}-{number}"
            self.names.append(name)
            request = {"opay_token": f"OPAY_TOKEN_{name}", "lookup_id": name.replace("~", "-"), "reply_to": "shop"}
            self._sent[request["lookup_id"]] = time.monotonic()
            self._service.send("opay", [request])
            number += 1

    def _read(self) -> None:
        last, end = "0", None
        while len(self._got) < len(self._sent) or not self._stop.is_set():
            if self._stop.is_set():
                end = end or time.monotonic() + 40
                if time.monotonic() > end:
                    raise AssertionError("interactive lookups got no answer")
            answer: Any = self._service.redis.xread({"token-records:shop": last}, block=200)
            for _, entries in answer or ():
                for last, fields in entries:  # noqa: B007 - where to read on
                    result, now = json.loads(fields[b"result"]), time.monotonic()
                    self._got[result["lookup_id"]] = result["status"], now - self._sent[result["lookup_id"]]


@contextmanager
def _service(**environment: str) -> Iterator[tuple[Service, Callable[..., WorkerProcess]]]:
    workers: list[WorkerProcess] = []
    with RedisServer(appendonly=True) as server, Simulator("--latency", str(_LATENCY)) as simulator:
        service = Service(server, simulator, **environment)

        def started(service: Service, *args: str) -> WorkerProcess:
            worker = WorkerProcess(service.environment, *args)
            workers.append(worker)
            return worker.ready(60)

        try:
            with service.explained(workers):
                yield service, started
        finally:
            for worker in workers:
                worker.child.stop()


def _sent(service: Service, names: list[str], first: int = 0) -> None:
    for start in range(0, len(names), 100):
        some = enumerate(names[start : start + 100], first + start)
        requests = [{"opay_token": f"OPAY_TOKEN_{name}", "lookup_id": f"bulk-{number}"} for number, name in some]
        service.send("opay", requests, lane="bulk")


def _done(service: Service) -> int:
    return int(service.redis.xlen("token-records:default"))


def _asked(service: Service) -> int:
    return int(service.simulator.stats()["requests"].get("opay", 0))


def _results(service: Service, queue: str) -> list[dict[str, Any]]:
    return [json.loads(entry["result"]) for entry in service.entries(f"token-records:{queue}")]


def _times(service: Service, names: list[str]) -> Iterator[float]:
    """When each was asked for."""
    for start in range(0, len(names), 50):  # a URL is only so long
        stats = service.simulator.stats(*(f"OPAY_TOKEN_{name}" for name in names[start : start + 50]))
        for calls in stats["by_reference"].values():
            yield from calls["at"]


def _memory(worker: WorkerProcess) -> float:
    return float(psutil.Process(worker.child.pid).memory_info().rss / (1 << 20))


def _told(plan: Plan, done: int, total: int) -> bool | None:
    plan.progress(done, total, "until all is answered")
    return True if done >= total else None


RUNS: Final = {"outage": outage, "hanging": hanging, "rate-limit": rate_limit, "half-well": half_well}
