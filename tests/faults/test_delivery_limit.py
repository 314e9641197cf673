"""A lookup that kills its worker ends as ``internal``; its neighbours get their results."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.environment import ROOT
from sandbox.processes import Child, start
from sandbox.service import Service

#: A worker whose OPay adapter crashes in native code, as it were, on certain cards.
CRASHING = """
import dataclasses, os, signal, sys
from tasks import providers

opay = providers.PROVIDERS["opay"]

def parse(response, query):
    if "deadly" in query.reference.get_secret_value():
        os.kill(os.getpid(), signal.SIGKILL)
    return opay.parse(response, query)

providers.PROVIDERS["opay"] = dataclasses.replace(opay, parse=parse)
sys.argv = ["celery", "-A", "tasks", "worker", "-l", "INFO"]
from celery.__main__ import main
main()
"""


@contextmanager
def supervised(service: Service, limit: int) -> Iterator[list[int]]:
    """Such a worker, started again whenever it ends; answers the exit statuses so far."""
    ends: list[int] = []
    stopping = threading.Event()
    current: list[Child] = []

    def supervise() -> None:
        environment = {**service.environment, "DELIVERY_LIMIT": str(limit), "LEASE_SECONDS": "1"}
        while not stopping.is_set():
            child = start([sys.executable, "-c", CRASHING], name="worker", cwd=ROOT, env=environment)
            current[:] = [child]
            ends.append(child.wait())

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield ends
    finally:
        stopping.set()
        current[0].terminate()
        thread.join(20)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_deadly_lookup_ends_after_the_limit_and_its_neighbours_are_served(service: Service, limit: int) -> None:
    names = ["visa~a", "deadly", "amex~a", "slow-0.3~a", "not-found"]
    with supervised(service, limit) as ends:
        task_id = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}"} for name in names])
        other = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa~other"}])
        results = service.results(task_id, 5, timeout=60)
        assert service.results(other, 1)[0]["status"] == "found"
        deaths = len(ends)
    # With a limit of one it takes a second death to know of which lookup they die.
    assert ends[:deaths] == [-signal.SIGKILL] * max(limit, 2)
    error = results[1]["error"]
    assert (error["category"], error["retryable"]) == ("internal", False)
    assert error["message"] == f"{max(limit, 2)} workers have died of it"
    assert [result["status"] for result in results] == ["found", "failed", "found", "found", "not_found"]
    assert [entry["lookup_id"] for entry in service.entries("lookup:dead-letters")] == [f"{task_id}:1"]


def test_two_deadly_lookups_of_a_list_both_end(service: Service) -> None:
    names = ["deadly-1", "visa~b", "deadly-2", "amex~b"]
    with supervised(service, 2):
        task_id = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}"} for name in names])
        results = service.results(task_id, 4, timeout=60)
    assert [result["status"] for result in results] == ["failed", "found", "failed", "found"]
    assert {result["error"]["category"] for result in results if result["error"]} == {"internal"}
