"""The service on Debian's Redis, beside the Valkey that the other tests run on where there is no Redis."""

from collections.abc import Iterator

import pytest

from sandbox.redis_server import RedisServer, find_server
from sandbox.service import Service, Simulator
from sandbox.waiting import until

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    assert find_server().name == "redis-server", "make tools installs it"
    with RedisServer() as server:
        service = Service(server, simulator, RESULT_RETENTION="2", DEAD_LETTER_RETENTION="2")
        assert service.redis.info("server").get("server_name", "redis") == "redis"
        with service.worker():
            yield service


def test_lookups_retries_dead_letters_and_quarantine_work_on_redis(service: Service) -> None:
    names = ["visa", "timeout-1~redis", "not-found", "code-20000", "bad\nname"]
    task_id = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}", "reply_to": "redis"} for name in names])
    results = service.results(task_id, 5, "redis")
    assert [result["status"] for result in results] == ["found", "found", "not_found", "failed", "failed"]
    assert [entry["code"] for entry in service.entries("lookup:dead-letters")] == ["20000"]
    service.redis.lpush("lookup.afterpay.bulk", b"\x00\xff")
    assert service.quarantined(b"\x00\xff")["queue"] == "lookup.afterpay.bulk"


def test_quiet_streams_are_swept_on_redis(service: Service) -> None:
    until(lambda: True if not service.redis.exists("token-records:redis", "lookup:dead-letters") else None)
