"""The benchmarks in their shortest form, of what needs no environment beside the project's own."""

import json
import subprocess
import sys

import pytest

from bench.contenders import CONTENDERS
from bench.costs import costs
from bench.latency import latency
from bench.report import goals
from bench.throughput import throughput
from sandbox.environment import ROOT


def silent(done: float, total: float, doing: str) -> None:
    """Report nothing."""


def test_throughput_is_measured_for_lists_and_single_messages() -> None:
    found = throughput(1, 0.03, silent, only="this project")
    assert set(found) == {"this project, lists of 100", "this project, single messages"}
    for each in found.values():
        assert each["median"] > 20
        assert each["cpu_ms"] > 0


def test_latency_is_measured_in_every_situation() -> None:
    found = latency(0.02, silent)
    assert list(found) == ["idle", "200 a second", "100,000 bulk waiting"]
    for each in found.values():
        assert 0 < each["p50"] <= each["p95"] <= each["p99"]


def test_a_page_would_say_what_is_met_and_what_is_not() -> None:
    rates = {each.name: {"median": 100.0, "promises": each.promises} for each in CONTENDERS}
    rates["this project, lists of 100"]["median"] = 210.0
    cost = {
        "enqueue": {"ratio": 29.0},
        "memory": {"waiting": [10, 100], "ratio": 1.02},
        "fleet": {"ratio": 1.2},
        "start": {"ours": 2.0, "stock": 1.9, "ratio": 1.05},
    }
    waits = {"idle": {"p99": 10.0}, "100,000 bulk waiting": {"p99": 15.0}}
    told = goals({"throughput": rates, "latency": waits, "costs": cost})
    missed = [what for what, _, _, met in told if not met]
    assert len(told) == 8
    assert missed == ["single messages, against Celery with threads", "CPU for a lookup, four workers against one"]


@pytest.mark.parametrize(
    ("args", "status", "says"), [(["--help"], 0, "docs/benchmarks.md"), (["speed"], 2, "throughput")]
)
def test_the_command_says_what_there_is(args: list[str], status: int, says: str) -> None:
    command = [sys.executable, "-m", "bench", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert says in done.stdout + done.stderr


def test_costs_are_measured() -> None:
    found = costs(1, 0.02, silent)
    assert json.dumps(found)
    assert found["enqueue"]["ratio"] > 1
    assert found["memory"]["ratio"] > 0
