"""Bulk is patient: what passes by itself is waited out, however few lookups wait for it."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until

LOOKUPS = 3


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with RedisServer() as server, Simulator() as simulator:
        yield Service(server, simulator)


@pytest.fixture(scope="module", autouse=True)
def worker(service: Service) -> Iterator[WorkerProcess]:
    with service.worker() as worker:
        yield worker


def found(service: Service, task_id: str, count: int) -> list[dict[str, Any]]:
    results = service.results(task_id, count)
    assert {each["status"] for each in results} == {"found"}, [each["error"] for each in results if each["error"]]
    return results


def asked(service: Service) -> int:
    return int(service.simulator.stats()["requests"].get("opay", 0))


def test_few_bulk_lookups_outlast_an_outage_that_takes_more_calls_than_an_interactive_one_has(service: Service) -> None:
    service.simulator.reset()
    service.simulator.behave(opay="down")
    ids = [service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}], lane="bulk") for _ in range(LOOKUPS)]
    [shopper] = service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]), 1)
    assert (shopper["error"]["category"], shopper["attempts"]) == ("unavailable", 5)
    until(lambda: True if asked(service) >= 5 + 8 * LOOKUPS else None)
    service.simulator.behave(opay="normal")
    for task_id in ids:
        [result] = service.results(task_id, 1)
        assert result["status"] == "found"
        assert result["attempts"] > 5


def limit_files(pid: int, more: int) -> None:
    """Let a process open so many file descriptors more and no others; with a negative number, as many as it likes."""
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # The limit is on the number of the next one, which is the lowest that is free.
    inside = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most if more < 0 else inside + more, most))


def test_a_worker_without_a_file_descriptor_blames_neither_provider_nor_lookup(
    service: Service, worker: WorkerProcess
) -> None:
    service.simulator.reset()
    found(service, service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}] * 3, lane="bulk"), 3)
    service.simulator.behave(latency=0.3)  # so that many calls are under way at once, each on a connection of its own
    limit_files(worker.child.pid, 1)
    try:
        ids = [
            service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}] * 40, lane=lane)
            for lane in ("bulk", "interactive")
        ]
        until(lambda: True if "calls to opay go back uncharged" in worker.log else None)
        assert service.redis.zcard("lookup:circuits") == 0
    finally:
        limit_files(worker.child.pid, -1)
    for task_id in ids:
        assert {each["attempts"] for each in found(service, task_id, 40)} == {1}
    assert service.redis.zcard("lookup:circuits") == 0
