"""Bulk is patient: what passes by itself is waited out, however few lookups wait for it."""

from collections.abc import Iterator

import pytest

from sandbox.redis_server import RedisServer
from tests.harness import Service, Simulator, until

LOOKUPS = 3


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with RedisServer() as server, Simulator() as simulator:
        service = Service(server, simulator)
        with service.worker():
            yield service


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
