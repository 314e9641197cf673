"""A worker dies between any two steps, and the results do not show it."""

import signal

import pytest

from sandbox.ledger import Ledger
from sandbox.service import Service, WorkerProcess
from tasks.crash_points import POINTS
from tests.faults.conftest import LEASE


def work(ledger: Ledger, name: str) -> None:
    """Messages that pass every point: single, in lists, tried again, delayed, malformed."""
    ledger.send([f"OPAY_TOKEN_visa~{name}"])
    ledger.push_malformed(f"no message {name}".encode())
    ledger.send([f"OPAY_TOKEN_{kind}~{name}" for kind in ("visa", "timeout-1", "not-found", "amex", "slow-0.2")])
    ledger.send([f"OPAY_TOKEN_timeout-2~{name}"])
    ledger.send([f"OPAY_TOKEN_visa~{name}-later"], countdown=0.3)
    ledger.send([f"OPAY_TOKEN_code-20000~{name}"])


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_loses_nothing_and_doubles_nothing(service: Service, point: str) -> None:
    ledger = Ledger(service)
    victim = WorkerProcess({**service.environment, "FAULT_POINT": f"{point}:2"}).ready()
    for round_ in range(3):
        work(ledger, f"{point}-{round_}")
    assert victim.child.wait(20) == -signal.SIGKILL, "the point was not reached"
    with service.worker():
        assert ledger.settled() < LEASE + 5


@pytest.mark.parametrize("point", ["published", "settled"])
def test_a_lookup_published_before_a_death_is_not_asked_for_again(service: Service, point: str) -> None:
    ledger = Ledger(service)
    references = [f"OPAY_TOKEN_visa~once-{point}-{i}" for i in range(5)]
    victim = WorkerProcess({**service.environment, "FAULT_POINT": point}).ready()
    ledger.send(references)
    assert victim.child.wait(20) == -signal.SIGKILL
    with service.worker():
        ledger.settled()
    calls = service.simulator.stats(*references)["by_reference"]
    assert {reference: seen["calls"] for reference, seen in calls.items()} == dict.fromkeys(references, 1)
