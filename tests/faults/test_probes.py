"""/livez and /readyz of real workers: what stops, what is away, and what only looks like it."""

import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from sandbox.environment import ROOT
from sandbox.processes import Child, start
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, WorkerProcess
from sandbox.waiting import until

#: A worker in which SIGUSR2 blocks the event loop, and a file in FOLDER a thread, for as long as it is there.
FAULTY = """
import os, runpy, signal, sys, time
from pathlib import Path
from tasks.broker.claims import Claims
from tasks.probes import liveness
from tasks.processor import MessageProcessor

def wait_for(name):
    while (Path(os.environ["FOLDER"]) / name).exists():
        time.sleep(0.05)

def blocked(kind, method, name):
    unblocked = getattr(kind, method)
    def call(*args):
        wait_for(name)
        return unblocked(*args)
    setattr(kind, method, call)

blocked(Claims, "maintain_leases", "leases")
blocked(MessageProcessor, "process", "messages")
signal.signal(signal.SIGUSR2, lambda *_: wait_for("loop"))
liveness.PATIENCE = float(os.environ["PATIENCE"])
liveness.WORK_PATIENCE = 2.0
sys.argv[0] = "celery"
runpy.run_module("celery", run_name="__main__", alter_sys=True)
"""


def probe(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status and document; nothing here may take long."""
    answer = requests.get(f"http://127.0.0.1:{port}{path}", timeout=5)
    return answer.status_code, answer.json()


def becomes(port: int, path: str, status: int, words: str = "", timeout: float = 20) -> None:
    """Wait until the probe has that status and those words."""

    def ask() -> bool | None:
        with suppress(requests.ConnectionError):
            found, document = probe(port, path)
            return (found == status and words in " ".join(document["reasons"])) or None
        return None

    until(ask, timeout, 0.05)


@contextmanager
def faulty(service: Service, port: int, folder: Path, patience: float) -> Iterator[Child]:
    own = {"HEALTH_PORT": str(port), "FOLDER": str(folder), "PATIENCE": str(patience), "HTTP_TOTAL_TIMEOUT": "1"}
    command = [sys.executable, "-c", FAULTY, "-A", "tasks", "worker", "-l", "INFO"]
    worker = start(command, name="worker", cwd=ROOT, env={**service.environment, **own})
    try:
        becomes(port, "/readyz", 200, timeout=60)
        yield worker
    finally:
        worker.stop()


def test_what_stands_still_is_named_and_forgiven_when_it_goes_on(service: Service, tmp_path: Path) -> None:
    port = free_port()
    with faulty(service, port, tmp_path, 3.0) as worker:
        worker.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED or None)
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"http://127.0.0.1:{port}/livez", timeout=4)
        worker.send_signal(signal.SIGCONT)
        assert probe(port, "/livez") == (200, {"live": True, "reasons": []}), "no thread could give a sign"
        for name, words in (
            ("loop", "the event loop has stood still"),
            ("leases", "the thread `leases` has stood still"),
            ("messages", "messages are worked on and have made no progress"),
        ):
            (tmp_path / name).touch()
            task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]) if name == "messages" else None
            if name == "loop":
                worker.send_signal(signal.SIGUSR2)
            becomes(port, "/livez", 503, words)
            becomes(port, "/readyz", 503, words)
            (tmp_path / name).unlink()
            becomes(port, "/livez", 200)
            becomes(port, "/readyz", 200)
            if task_id:
                assert len(service.results(task_id, 1)) == 1


def test_a_worker_that_waits_for_redis_is_alive_and_not_ready(service: Service) -> None:
    port = free_port()
    service.server.child.stop()
    worker = WorkerProcess({**service.environment, "HEALTH_PORT": str(port)})
    try:
        becomes(port, "/livez", 200, timeout=60)
        assert probe(port, "/readyz") == (
            503,
            {"ready": False, "reasons": ["it starts, or waits for Redis to begin: its log says for what"]},
        )
        service.server.start()
        becomes(port, "/readyz", 200)
    finally:
        worker.child.stop()


def test_redis_that_is_frozen_or_dead_makes_a_worker_unready_within_seconds_and_never_dead(service: Service) -> None:
    port = free_port()
    with service.worker(HEALTH_PORT=str(port)):
        becomes(port, "/readyz", 200)
        for fail, restore in (
            (service.server.pause, service.server.resume),
            (service.server.kill, service.server.start),
        ):
            fail()
            becomes(port, "/readyz", 503, "Redis ", timeout=10)
            assert probe(port, "/livez") == (200, {"live": True, "reasons": []})
            restore()
            becomes(port, "/readyz", 200)
        service.redis.config_set("maxmemory", 1)
        becomes(port, "/readyz", 503, "its queues cannot be asked (OutOfMemoryError)")
        service.redis.config_set("maxmemory", 0)
        becomes(port, "/readyz", 200)
        service.producer.control.cancel_consumer("lookup.opay.bulk")
        for queue in ("lookup.opay.interactive", "lookup.afterpay.bulk", "lookup.afterpay.interactive"):
            assert probe(port, "/readyz")[0] == 200
            service.producer.control.cancel_consumer(queue)
        becomes(port, "/readyz", 503, "it takes from no queue")


def test_a_worker_that_stops_is_unready_at_once_and_alive_until_its_calls_have_ended(service: Service) -> None:
    port = free_port()
    service.simulator.behave(latency=3)
    try:
        with service.worker(HEALTH_PORT=str(port)) as worker:
            task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}])
            until(lambda: service.simulator.stats()["in_flight"] or None)
            worker.child.send_signal(signal.SIGTERM)
            becomes(port, "/readyz", 503, "it was asked to stop", timeout=2)
            while worker.child.poll() is None and service.simulator.stats()["in_flight"]:
                assert probe(port, "/livez")[0] == 200
            assert worker.child.wait(20) == 0
    finally:
        service.simulator.behave(latency=0)
    assert [each["status"] for each in service.results(task_id, 1)] == ["found"]


def test_a_port_that_cannot_be_had_ends_the_start_with_the_fix(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = WorkerProcess({**service.environment, "HEALTH_PORT": str(port)})
        assert worker.child.wait(30) == 78
    until(lambda: f"HEALTH_PORT {port} on 127.0.0.1 cannot be used (Address already in use)" in worker.log or None)
    assert "give each worker of a host a port of its own" in worker.log


@pytest.mark.tools
@pytest.mark.timeout(400)
def test_a_minute_without_redis_and_then_a_loop_that_is_blocked(service: Service, tmp_path: Path) -> None:
    """With the patience that workers have, of which a minute is twice the longest."""
    port = free_port()
    with RedisServer() as other, faulty(service, port, tmp_path, 25.0) as worker:
        frozen, frozen_port = Service(other, service.simulator), free_port()
        with frozen.worker(HEALTH_PORT=str(frozen_port)):
            becomes(frozen_port, "/readyz", 200)
            service.server.kill()
            other.pause()
            for each in (port, frozen_port):
                becomes(each, "/readyz", 503, "Redis ", timeout=10)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                for each in (port, frozen_port):
                    assert probe(each, "/livez") == (200, {"live": True, "reasons": []})
                    assert probe(each, "/readyz")[0] == 503
                time.sleep(0.5)
            service.server.start()
            other.resume()
            for each in (port, frozen_port):
                becomes(each, "/readyz", 200)
        (tmp_path / "loop").touch()
        worker.send_signal(signal.SIGUSR2)
        becomes(port, "/livez", 503, "the event loop", timeout=35)
        (tmp_path / "loop").unlink()
