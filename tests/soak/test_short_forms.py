"""The long runs in their short form: each has to meet its goal, and has to be able to miss it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from sandbox.environment import ROOT
from sandbox.processes import start
from sandbox.service import Service
from sandbox.waiting import until
from soak import fuzz
from soak.__main__ import RUNS, main
from soak.kills import LEASE, kills_stock
from soak.record import Plan, Record
from soak.stock import StockWorker


def made(name: str, scale: float) -> Record:
    return RUNS[name](Plan(scale=scale, seed=1, progress=lambda *_: None))


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("kills", 0.02),
        ("redis-restarts", 0.05),
        ("silent", 0.04),
        ("stops", 0.02),
        ("scale", 0.02),
        ("fuzz", 0.03),
        ("answers", 0.03),
        ("outage", 0.05),
        ("rate-limit", 0.1),
        ("half-well", 0.05),
    ],
)
def test_a_short_run_meets_its_goal(name: str, scale: float) -> None:
    record = made(name, scale)
    assert record.passed, f"{record.goal}: {dict(record.figures)}"


def test_the_same_kills_show_on_stock_celery_what_they_are_to_show() -> None:
    plan = Plan(scale=0.02, seed=1, progress=lambda *_: None)
    # No longer than this service takes until all is over that a dead worker had in hand.
    figures = kills_stock(plan, patience=LEASE + 5).figures
    assert int(figures["lost"]) + int(figures["second results"]) > 0


def test_the_first_entry_that_is_no_json_ends_a_stock_worker(service: Service) -> None:
    environment = {**service.environment, "REDIS_URL": service.server.url.removesuffix("/0") + "/1"}
    worker = StockWorker(environment).ready()
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        client.lpush("lookup.opay.bulk", b"lookup me up")
    assert worker.child.wait(20) != 0


def test_a_run_that_breaks_is_told_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def breaks(_: Plan) -> Record:
        raise TimeoutError("not so after 60 s")

    monkeypatch.setitem(RUNS, "idle", breaks)
    monkeypatch.setitem(RUNS, "herd", lambda _: Record(goal="none", passed=True, done={}, figures={"lost": 0}))
    assert main(["idle", "herd", "--json", str(tmp_path / "told")]) == 1
    told = json.loads((tmp_path / "told").read_text())["runs"]
    assert (told["idle"]["passed"], told["idle"]["figures"]) == (False, {"TimeoutError": "not so after 60 s"})
    assert told["herd"]["passed"]


def test_spoiling_an_entry_changes_nothing_of_the_next() -> None:
    chance = Plan(scale=1, seed=11, progress=lambda *_: None).chance()
    before = repr(fuzz._ODD)
    for _ in range(500):
        fuzz._spoilt("opay", "bulk", chance)
    assert repr(fuzz._ODD) == before


def test_the_command_says_what_there_is_and_refuses_what_there_is_not() -> None:
    def soak(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "soak", *args]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    listed = soak("--list")
    assert (listed.returncode, [line.split()[0] for line in listed.stdout.splitlines()]) == (0, list(RUNS))
    refused = soak("kils")
    assert refused.returncode == 2
    assert "no such run: kils; there are: kills," in refused.stderr


def test_ctrl_c_stops_a_run_and_all_that_it_started() -> None:
    run = start([sys.executable, "-m", "soak", "idle"], name="soak", cwd=ROOT)
    # Redis, the providers and a worker.
    children = until(lambda: found if len(found := _descendants(run.pid)) >= 3 else None)
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    until(lambda: True if not any(map(_alive, children)) else None)


def test_the_figures_can_be_written_down(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "soak", "answers", "--scale", "0.004", "--seed", "3", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert (document["seed"], document["runs"]["answers"]["passed"]) == (3, True)


def _descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
