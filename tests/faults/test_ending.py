"""A process that has not begun, or waits for Redis, ends at once when it is told to: as process 1 of a container too.

Process 1 has no default action for a signal. Any other that ends by a handler of its own ends with status 0, one that
ends by default with the signal's number: so the status says whether a container would end.
"""

import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.environment import ROOT
from sandbox.processes import Child, start, wait_for_line
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP]
AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer() as server:
        yield Service(server, simulator)


def ends(child: Child, number: signal.Signals = signal.SIGTERM) -> None:
    child.send_signal(number)
    begun = time.monotonic()
    assert child.wait(10) == 0
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_worker_that_waits_for_redis_ends_at_once(service: Service, number: signal.Signals) -> None:
    worker = WorkerProcess({**service.environment, "REDIS_URL": AWAY})
    wait_for_line(worker.child, "is not there yet", 30)
    ends(worker.child, number)


def test_a_worker_that_redis_does_not_answer_ends_at_once(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = WorkerProcess({**service.environment, "REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"})
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            ends(worker.child)


def test_a_worker_that_waits_for_a_redis_that_takes_writes_ends_at_once(service: Service, tmp_path: Path) -> None:
    service.redis.config_set("min-replicas-to-write", 1)
    pidfile = tmp_path / "worker.pid"
    try:
        worker = WorkerProcess(service.environment, "--pidfile", str(pidfile))
        wait_for_line(worker.child, "Redis takes no writes", 30)
        assert pidfile.exists()
        ends(worker.child)
        assert not pidfile.exists()
    finally:
        service.redis.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("program", ["worker", "flower"])
def test_a_program_obeys_a_signal_before_it_has_read_its_settings(service: Service, program: str) -> None:
    code = (
        f"import sys, time; sys.argv = ['celery', '-A', 'tasks', '{program}']\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'config.settings': print('importing', flush=True); time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "import tasks.celery"
    )
    child = start([sys.executable, "-c", code], name=program, cwd=ROOT, env=service.environment)
    wait_for_line(child, "importing", 20)
    ends(child)


def test_the_pidfile_is_gone_after_two_sigterms(service: Service, tmp_path: Path) -> None:
    pidfile = tmp_path / "worker.pid"
    worker = WorkerProcess(service.environment, "--pidfile", str(pidfile)).ready()
    service.send("opay", [{"opay_token": "OPAY_TOKEN_slow-8~pidfile"}])
    until(lambda: True if service.simulator.stats()["in_flight"] else None)
    assert int(pidfile.read_text(encoding="utf-8")) == worker.child.pid
    worker.child.send_signal(signal.SIGTERM)
    wait_for_line(worker.child, "Warm shutdown", 10)
    worker.child.send_signal(signal.SIGTERM)
    assert worker.child.wait(8) == 0
    assert not pidfile.exists()
    service.redis.flushall()


def test_sigterm_while_redis_is_frozen_is_over_within_the_bound(service: Service, tmp_path: Path) -> None:
    pidfile = tmp_path / "worker.pid"
    worker = WorkerProcess({**service.environment, "HTTP_TOTAL_TIMEOUT": "1"}, "--pidfile", str(pidfile)).ready()
    service.server.pause()
    try:
        begun = time.monotonic()
        worker.child.send_signal(signal.SIGTERM)
        assert worker.child.wait(20) == 0
        assert time.monotonic() - begun < 15
    finally:
        service.server.resume()
    assert not pidfile.exists()
