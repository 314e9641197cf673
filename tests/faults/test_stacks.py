"""What a running process shows to who asks for it: where its threads are, no card holder's data and no password."""

import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import ROOT
from sandbox.processes import start, wait_for_line
from sandbox.service import Service
from sandbox.waiting import until
from tasks.broker.remote_control import stats

CANARY = "7d6c5b4a39281706"


@pytest.mark.parametrize("environment", [{}, {"CELERY_RDBSIG": "1"}])
def test_sigusr1_shows_stacks_and_nothing_that_is_in_them(service: Service, environment: dict[str, str]) -> None:
    requests = [{"opay_token": f"OPAY_TOKEN_slow-2~{CANARY}-{n}", "metadata": {"m": CANARY}} for n in range(20)]
    with service.worker(**environment) as worker:
        task_id = service.send("opay", requests)
        until(lambda: True if service.redis.zcard("lookup:leases") else None)

        def shown() -> bool | None:
            worker.child.send_signal(signal.SIGUSR1)
            return True if re.search(r'File "\S+/tasks/calls/engine\.py", line \d+ in ', worker.log) else None

        until(shown, pause=0.2)
        assert len(service.results(task_id, 20)) == 20, "and it goes on"
        assert CANARY not in worker.log
        assert not _catches(worker.child.pid, signal.SIGUSR2), "Celery's debugger would let anybody in"


@pytest.mark.parametrize("program", ["worker", "flower"])
def test_sigusr1_is_safe_from_the_start(service: Service, program: str) -> None:
    environment = {**service.environment, "REDIS_URL": "redis://127.0.0.1:1/0", "FLOWER_PORT": "0"}
    command = [sys.executable, "-m", "celery", "-A", "tasks", program]
    child = start(command, name=program, cwd=ROOT, env=environment)
    try:
        # Whenever it comes: the process is not ended by it once this service's code has begun.
        until(lambda: True if _catches(child.pid, signal.SIGUSR1) else None)
        child.send_signal(signal.SIGUSR1)
        wait_for_line(child, r"Current thread|Thread 0x", 20)
        assert child.poll() is None
    finally:
        child.stop()


def test_stats_show_no_password_of_redis_or_of_sentinels() -> None:
    params = {"hostname": "10.0.0.1", "port": 26379, "alternates": [f"sentinel://:{CANARY}@10.0.0.1"]}
    params["transport_options"] = {"sentinel_kwargs": {"password": CANARY}}

    class Controller:
        def stats(self) -> dict[str, Any]:
            return {"pid": 1, "broker": params}

    class State:
        consumer = type("", (), {"controller": Controller()})

    assert stats(State) == {"pid": 1, "broker": {"hostname": "10.0.0.1", "port": 26379}}


def _catches(pid: int, number: int) -> bool:
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
