"""Flower says that it is not well while it does not hear of Redis."""

from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest
import requests

from config import flower_health
from sandbox.faulty_proxy import Fault, FaultyProxy
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.browser.flower import Flower


def test_a_flower_that_has_not_reached_redis_is_not_well_until_it_has(
    redis_server: RedisServer, simulator: Simulator, tmp_path: Path
) -> None:
    assert redis_server.port is not None
    environment = Service(redis_server, simulator).environment
    with FaultyProxy(redis_server.port) as proxy:
        proxy.fault_of_new = Fault.SILENT
        flower = Flower({**environment, "REDIS_URL": proxy.url}, tmp_path)
        try:

            def health() -> requests.Response | None:
                try:
                    return requests.get(f"{flower.url}/healthcheck", timeout=5)
                except requests.ConnectionError:
                    return None

            first = until(health, 60, 0.1)
            assert (first.status_code, first.text) == (503, "Redis was not reached yet")
            proxy.fault_of_new = Fault.NONE
            until(lambda: True if (answer := health()) is not None and answer.status_code == 200 else None, 60, 0.1)
        finally:
            flower.child.stop()


def test_a_flower_that_heard_nothing_for_long_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = SimpleNamespace(heard_at=monotonic())
    monkeypatch.setattr(flower_health, "_listening", transport)
    assert flower_health.trouble() is None
    transport.heard_at -= 25
    assert flower_health.trouble() == "Redis is silent for 25 s"
