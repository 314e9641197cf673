"""docs/benchmarks.md and its plots, from the figures of one run."""

import os
import platform
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from bench.throughput import LATENCY
from sandbox.environment import ROOT

_DOCS: Final = ROOT / "docs"
_OURS: Final = "this project"
_ACKNOWLEDGES: Final = "none"


def write(found: dict[str, Any]) -> None:
    """Write the page and the plots."""
    (_DOCS / "benchmarks").mkdir(exist_ok=True)
    _bars(found["throughput"], _DOCS / "benchmarks/throughput.svg")
    _curves(found["latency"], _DOCS / "benchmarks/latency.svg")
    (_DOCS / "benchmarks.md").write_text(_page(found), encoding="utf-8")


def goals(found: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What was aimed at, the goal, what was measured, and whether it is met."""
    rates = {name: each["median"] for name, each in found["throughput"].items()}
    others = {name: rate for name, rate in rates.items() if not name.startswith(_OURS)}
    safe = {name: rate for name, rate in others.items() if _ACKNOWLEDGES not in found["throughput"][name]["promises"]}
    lists, single = (rates[f"{_OURS}, {kind}"] for kind in ("lists of 100", "single messages"))
    fastest, acknowledging = max(others, key=others.__getitem__), max(safe, key=safe.__getitem__)
    cost, waits = found["costs"], found["latency"]
    idle, beside = waits["idle"]["p99"], waits["100,000 bulk waiting"]["p99"]
    rows = [
        (f"bulk lookups a second on one core, against the fastest other ({fastest})", 1.6, lists / others[fastest]),
        ("single messages, against Celery with threads", 1.6, single / others["Celery, threads"]),
        (
            f"single messages, against the fastest other that acknowledges ({acknowledging})",
            1.0,
            single / safe[acknowledging],
        ),
        ("`enqueue_many`, against `send_task` one by one", 20.0, cost["enqueue"]["ratio"]),
    ]
    goals = [(what, f"{goal:g} × or more", f"{ratio:.2f} ×", ratio >= goal) for what, goal, ratio in rows]
    goals.append(
        (
            "interactive p99 overhead beside 100,000 bulk lookups, against idle",
            "2 × at most, under 50 ms",
            f"{beside / idle:.2f} × ({beside:.0f} ms against {idle:.0f})",
            beside <= 2 * idle and beside < 50,
        )
    )
    memory, fleet, start = cost["memory"], cost["fleet"], cost["start"]
    few, many = memory["waiting"]
    goals += [
        (f"worker memory, {many:,} waiting against {few:,}", "within 5 %", f"{memory['ratio']:.3f} ×",
         memory["ratio"] <= 1.05),
        ("CPU for a lookup, four workers against one", "within 10 %", f"{fleet['ratio']:.2f} ×",
         fleet["ratio"] <= 1.1),
    ]  # fmt: skip
    if "ratio" in start:
        said = f"{start['ratio']:.2f} × ({start['ours']:.1f} s against {start['stock']:.1f})"
        goals.append(
            ("from start to ready, against a stock Celery worker", "1.3 × at most", said, start["ratio"] <= 1.3)
        )
    return goals


def _page(found: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {name} | {each['median']:,.0f} | {min(each['rates']):,.0f} to {max(each['rates']):,.0f} "
        f"| {each['cpu_ms']:.2f} | {each['concurrency']} | {each['promises']} |"
        for name, each in sorted(found["throughput"].items(), key=lambda one: -one[1]["median"])
    )
    aims = "\n".join(
        f"| {what} | {goal} | {said} | {'met' if met else '**missed**'} |" for what, goal, said, met in goals(found)
    )
    waits = "\n".join(
        f"| {name} | {each['p50']:.1f} | {each['p95']:.1f} | {each['p99']:.1f} |"
        for name, each in found["latency"].items()
    )
    cost = found["costs"]
    rates = found["throughput"]
    return (
        files(__package__)
        .joinpath("page.md")
        .read_text(encoding="utf-8")
        .format(
            rows=rows,
            aims=aims,
            waits=waits,
            latency=1000 * LATENCY,
            enqueue_many=cost["enqueue"]["enqueue_many"],
            send_task=cost["enqueue"]["send_task"],
            mb_few=cost["memory"]["mb"][0],
            mb_many=cost["memory"]["mb"][1],
            few=cost["memory"]["waiting"][0],
            many=cost["memory"]["waiting"][1],
            one=cost["fleet"]["one"],
            four=cost["fleet"]["four"],
            start=cost["start"]["ours"],
            versions=found["versions"],
            machine=_machine(),
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            list_ms=rates[f"{_OURS}, lists of 100"]["cpu_ms"],
            single_ms=rates[f"{_OURS}, single messages"]["cpu_ms"],
        )
    )


def _machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{len(os.sched_getaffinity(0))} cores ({model}), {platform.system()} {platform.release().split('-')[0]}"


def _figure(width: float, height: float) -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "cardtoken", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    )
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")


def _bars(rates: dict[str, Any], path: Path) -> None:
    figure, axes = _figure(9, 4)
    ordered = sorted(rates.items(), key=lambda one: one[1]["median"])
    names = [name for name, _ in ordered]
    colours = ["#1f6f54" if name.startswith(_OURS) else "#b8b8b8" for name in names]
    bars = axes.barh(names, [each["median"] for _, each in ordered], color=colours)
    axes.bar_label(bars, [f" {each['median']:,.0f}" for _, each in ordered])
    axes.set_xlabel("lookups a second on one core, median of the rounds")
    axes.margins(x=0.1)
    figure.savefig(path, metadata={"Date": None})


def _curves(waits: dict[str, Any], path: Path) -> None:
    figure, axes = _figure(9, 4)
    for (name, each), colour in zip(waits.items(), ("#1f6f54", "#d08c2f", "#a23b3b"), strict=True):
        ordered = sorted(each["all"])
        shares = [100 * (place + 1) / len(ordered) for place in range(len(ordered))]
        axes.plot(ordered, shares, label=name, color=colour)
    axes.axhline(99, color="#b8b8b8", linewidth=0.8, linestyle="--")
    axes.text(axes.get_xlim()[1], 99, "p99", ha="right", va="bottom", color="#777777")
    axes.set_xlabel("milliseconds that the service adds to a lookup")
    axes.set_ylabel("share of lookups, %")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
