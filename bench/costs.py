"""What else has a price: enqueueing, memory, a fleet, a start."""

import compileall
import subprocess
import sys
import time
import uuid
from statistics import median
from typing import Any, Final

import psutil

from bench.contenders import CONTENDERS, ours
from bench.latency import fill
from bench.machine import Stage, cpu_seconds, stage
from bench.progress import ReportProgress
from bench.throughput import LATENCY, wait
from cardtoken import Client
from sandbox.environment import ROOT
from sandbox.processes import Child, wait_for_line

_READY: Final = r" ready\."


def costs(rounds: int, scale: float, report: ReportProgress) -> dict[str, Any]:
    """The figures, by what they are of."""
    steps = [("enqueue", _enqueue), ("memory", _memory), ("fleet", _fleet), ("start", _start)]
    found: dict[str, Any] = {}
    for place, (name, measure) in enumerate(steps):
        report(place, len(steps), name)
        with stage(LATENCY) as on:
            found[name] = measure(on, rounds, scale)
    return found


def _enqueue(on: Stage, rounds: int, scale: float) -> dict[str, Any]:
    """Lookups a second: ``enqueue_many`` against Celery's ``send_task``, one by one."""
    from celery import Celery

    producer = Celery(broker=on.environment["REDIS_URL"])
    many, one = int(100_000 * scale), int(4_000 * scale)
    fast, slow = [], []
    with Client(on.environment["REDIS_URL"]) as client:
        for _ in range(rounds):
            begun = time.perf_counter()
            client.enqueue_many(
                ({"opay_token": f"OPAY_TOKEN_visa~{number}"} for number in range(many)), max_queue_length=None
            )
            fast.append(many / (time.perf_counter() - begun))
            begun = time.perf_counter()
            for number in range(one):
                requests = [{"opay_token": f"OPAY_TOKEN_visa~{number}"}]
                producer.send_task("lookup.opay", kwargs={"requests": requests}, queue="lookup.opay.bulk")
            slow.append(one / (time.perf_counter() - begun))
            on.redis.flushall()
    producer.close()
    ratios = [a / b for a, b in zip(fast, slow, strict=True)]
    return {"enqueue_many": round(median(fast)), "send_task": round(median(slow)), "ratio": round(median(ratios), 1)}


def _memory(on: Stage, _: int, scale: float) -> dict[str, Any]:
    """The largest resident size in MB of a worker at work, with few and with many lookups waiting all the time."""
    sizes: dict[int, float] = {}
    for waiting in (1_000, max(2_000, int(100_000 * scale))):
        on.clear()
        fill(on, waiting)
        worker = on.start(ours(64), PROVIDER_CONCURRENCY="64")
        try:
            sizes[waiting] = _largest(on, worker, waiting, int(4_000 * scale), max(1.0, 5 * scale))
        finally:
            worker.kill()
            worker.wait(10)
    with_few, with_many = sizes.values()
    ratio = round(with_many / with_few, 3)
    return {"waiting": list(sizes), "mb": [round(with_few, 1), round(with_many, 1)], "ratio": ratio}


def _largest(on: Stage, worker: Child, waiting: int, warm: int, seconds: float) -> float:
    """Its largest size in MB in so many seconds after so many results, while what it took is filled up again."""
    largest, begun = 0.0, time.monotonic()
    patience = begun + 120
    while time.monotonic() < begun + seconds:
        fill(on, waiting - 100 * on.redis.llen("lookup.opay.bulk"))
        if on.redis.xlen("token-records:default") < warm:
            begun = time.monotonic()
            if begun > patience:
                raise TimeoutError(f"fewer than {warm} results after two minutes")
        else:
            largest = max(largest, psutil.Process(worker.pid).memory_info().rss / (1 << 20))
        time.sleep(0.05)
    return largest


def _fleet(on: Stage, rounds: int, scale: float) -> dict[str, Any]:
    """CPU milliseconds for each lookup, with one worker and with four."""
    spent: dict[int, list[float]] = {1: [], 4: []}
    count = max(600, int(12_000 * scale))
    for _ in range(rounds):
        for size, found in spent.items():
            on.clear()
            workers = [
                on.start([*ours(64, "INFO"), "-n", f"w{uuid.uuid4().hex[:8]}@bench"], PROVIDER_CONCURRENCY="64")
                for _ in range(size)
            ]
            for worker in workers:
                wait_for_line(worker, _READY, 60)
            fill(on, count)
            try:
                wait(on, count // 5)
                first, before = on.redis.xlen("token-records:default"), sum(cpu_seconds(each.pid) for each in workers)
                wait(on, int(count * 0.95))
                done = on.redis.xlen("token-records:default") - first
                found.append(1000 * (sum(cpu_seconds(each.pid) for each in workers) - before) / done)
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait(10)
    one, four = median(spent[1]), median(spent[4])
    return {"one": round(one, 3), "four": round(four, 3), "ratio": round(four / one, 2)}


def _start(on: Stage, rounds: int, _: float) -> dict[str, Any]:
    """Seconds from its start to a worker's being ready, against a stock Celery worker with a task that does nothing."""
    stock = next(each for each in CONTENDERS if each.name == "Celery, threads")
    # As the image has it, and pip has done it for the other.
    for package in ("cardtoken", "config", "tasks"):
        compileall.compile_dir(ROOT / package, quiet=1)
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(_ready(on, ours(64, "INFO")))
        if stock.there:
            command = [*stock.command(64), "-l", "INFO"]
            theirs.append(_ready(on, [each for each in command if not each.startswith("--without")]))
    figures = {"ours": round(median(mine), 2)}
    if theirs:
        ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
        figures |= {"stock": round(median(theirs), 2), "ratio": round(median(ratios), 2)}
    return figures


def _ready(on: Stage, command: list[str]) -> float:
    begun = time.perf_counter()
    worker: Child = on.start(command)
    try:
        wait_for_line(worker, _READY, 60)
        return time.perf_counter() - begun
    finally:
        worker.kill()
        worker.wait(10)


def versions() -> str:
    """What was measured, in a line each."""
    lines = [f"Python {sys.version.split()[0]}"]
    for each in {each.python for each in CONTENDERS if each.there}:
        command = [str(each), "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout  # noqa: S603
        wanted = ("arq==", "celery==", "dramatiq==", "kombu==", "redis==", "taskiq==", "taskiq-redis==", "hiredis==")
        lines += [line for line in output.splitlines() if line.startswith(wanted)]
    return ", ".join(sorted(set(lines)))
