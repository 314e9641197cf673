"""Lookups a second on one core, of every contender in turn, in several rounds."""

import time
from statistics import median
from typing import Any, Final

from bench.contenders import CONTENDERS, Contender
from bench.machine import Stage, cpu_seconds, stage
from bench.progress import ReportProgress

LATENCY: Final = 0.1
_STREAM: Final = "token-records:default"
_PATIENCE: Final = 120.0
#: The part of the results between which the rate is taken: before, connections are opened and threads started; behind,
#: fewer and fewer run side by side.
_WARM: Final = 0.2
_DONE: Final = 0.95


def throughput(rounds: int, scale: float, report: ReportProgress, only: str = "") -> dict[str, Any]:
    """Rates by contender: each round's, and the median; with what each promises."""
    chosen = [each for each in CONTENDERS if only.lower() in each.name.lower()]
    rates: dict[str, list[float]] = {each.name: [] for each in chosen if each.there}
    spent: dict[str, list[float]] = {name: [] for name in rates}
    with stage(LATENCY) as on:
        for number in range(rounds):
            for place, each in enumerate(chosen):
                report(number * len(chosen) + place, rounds * len(chosen), f"round {number + 1}: {each.name}")
                if each.there:
                    rate, cpu = _once(on, each, max(100, int(each.count * scale)))
                    rates[each.name].append(rate)
                    spent[each.name].append(cpu)
    return {
        each.name: {
            "rates": [round(rate, 1) for rate in rates[each.name]],
            "median": round(median(rates[each.name]), 1),
            "cpu_ms": round(1000 * median(spent[each.name]), 3),
            "promises": each.promises,
            "concurrency": each.concurrency,
        }
        for each in chosen
        if each.there
    }


def _once(on: Stage, each: Contender, count: int) -> tuple[float, float]:
    """Lookups a second and CPU seconds for each, once it is warm."""
    on.clear()
    environment = {**dict(each.environment), "BENCH_CONCURRENCY": str(each.concurrency)}
    on.environment |= environment
    each.enqueue(on, count)
    worker = on.start(each.command(each.concurrency), **environment)
    try:
        warm = int(count * _WARM)
        wait(on, warm)
        began, cpu = time.monotonic(), cpu_seconds(worker.pid)
        first = on.redis.xlen(_STREAM)
        wait(on, int(count * _DONE))
        took, used = time.monotonic() - began, cpu_seconds(worker.pid) - cpu
        done = on.redis.xlen(_STREAM) - first
        return done / took, used / done
    finally:
        worker.kill()
        worker.wait(10)


def wait(on: Stage, count: int) -> None:
    """Until there are so many results."""
    end = time.monotonic() + _PATIENCE
    while on.redis.xlen(_STREAM) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{on.redis.xlen(_STREAM)} of {count} results")
        time.sleep(0.01)
