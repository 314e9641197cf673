"""Clocks that are wrong or are set: deadlines and waits are by Redis' clock, and no lookup pays for the difference."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from redis import Redis

from sandbox.messages import plain, raw, with_headers
from sandbox.service import Service
from sandbox.shifted_clock import ShiftedServer
from tasks.broker.claims import Claims
from tasks.stores.clock import RedisClock


@contextmanager
def shifted(service: Service, ahead: int) -> Iterator[ShiftedServer]:
    server = ShiftedServer(service.server.url, ahead)
    try:
        yield server
    finally:
        server.close()


def in_redis_time(ahead: int, seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=ahead + seconds)).isoformat()


def test_a_worker_whose_clock_is_ahead_asks_for_interactive_lookups_and_says_that_it_is_wrong(service: Service) -> None:
    ahead = -45
    with shifted(service, ahead) as server, service.worker(REDIS_URL=server.url) as worker:
        requests = [
            {"opay_token": f"OPAY_TOKEN_{token}~clock", "requested_at": in_redis_time(ahead)}
            for token in ("visa", "unavailable-1")  # the second is tried again
        ]
        results = service.results(service.send("opay", requests), 2)
        assert [result["status"] for result in results] == ["found", "found"]
        late = {"opay_token": "OPAY_TOKEN_visa~late", "deadline": in_redis_time(ahead, -1)}
        [expired] = service.results(service.send("opay", [late]), 1)
        assert expired["error"]["category"] == "expired"
        [key] = service.redis.keys("lookup:worker:*")
        assert 44 < float(service.redis.hget(key, "clock_offset")) < 46
    assert len(re.findall(r"this host's clock is 4\d\.\d s ahead of Redis'", worker.log)) == 1


def test_a_retry_that_was_put_by_a_clock_an_hour_ahead_comes_when_it_is_due(service: Service) -> None:
    later = in_redis_time(3600)
    state = {
        "index": 0,
        "lookup_id": "mine",
        "attempts": 1,
        "requested_at": in_redis_time(0),
        "deadline": in_redis_time(7200),
        "not_before": later,
    }
    kwargs = {"requests": [{"opay_token": "OPAY_TOKEN_visa~ahead"}], "retry": {"version": 1, "lookups": [state]}}
    entry = with_headers(plain(kwargs, task_id="put-ahead"), retries=1, eta=later)
    with Redis.from_url(service.server.url) as redis:
        clock = RedisClock(redis)
        Claims(redis, 30, 1 << 20, clock).defer("c1", "lookup.opay.bulk", raw(entry), clock.now())
    with service.worker():
        [result] = service.results("put-ahead", 1)
    assert (result["status"], result["lookup_id"], result["attempts"]) == ("found", "mine", 2)


def test_a_dead_workers_messages_are_taken_over_after_redis_clock_went_back_by_an_hour(service: Service) -> None:
    service.send("opay", [{"opay_token": "OPAY_TOKEN_visa~held"}], task_id="held")
    with Redis.from_url(service.server.url) as redis:
        dead = Claims(redis, 30, 1 << 20, RedisClock(redis))
        [claim] = dead.take(["lookup.opay.interactive"], 1)[0]
        redis.zadd("lookup:leases", {claim.id: (datetime.now(UTC).timestamp() + 3630) * 1000})
    with service.worker():
        [result] = service.results("held", 1)
    assert result["status"] == "found"
