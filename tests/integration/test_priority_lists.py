"""Messages with a priority, however their producer names the lists for them; and lists that no worker takes from."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from celery import Celery

from cardtoken.other_lists import OTHER_LISTS, suffixes
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tasks.broker.claims import Claims
from tasks.stores.clock import RedisClock
from tasks.stores.other_lists import OtherListsFinder
from tests.cli.terminal import environment, piped

QUEUE = "lookup.opay.bulk"
GOOD = {"opay_token": "OPAY_TOKEN_visa"}


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer() as server:
        yield Service(server, simulator)


def producer(service: Service, **options: object) -> Celery:
    app = Celery("a-producer-with-priorities", broker=service.server.url)
    app.conf.broker_transport_options = {"queue_order_strategy": "priority", **options}
    return app


def status(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(piped(environment(service.server.url), "status", "--json").stdout)
    return found


def test_priorities_of_celerys_own_page_are_taken(service: Service) -> None:
    for number, options in enumerate(({"priority_steps": list(range(10)), "sep": ":"}, {})):
        app = producer(service, **options)
        for priority in (0, 1, 3, 5, 9):
            app.send_task(
                "lookup.opay",
                kwargs={"requests": [GOOD]},
                queue=QUEUE,
                priority=priority,
                task_id=f"{number}-{priority}",
            )
    assert service.redis.llen(f"{QUEUE}:3") == 1
    (queue,) = [each for each in status(service)["queues"] if each["name"] == QUEUE]
    assert queue["waiting"] == 10
    with service.worker():
        for number in range(2):
            for priority in (0, 1, 3, 5, 9):
                assert service.results(f"{number}-{priority}", 1)[0]["status"] == "found"


def test_other_separators_and_steps_are_a_setting(service: Service) -> None:
    app = producer(service, priority_steps=[0, 50, 200], sep="|")
    settings = {"PRIORITY_SEPARATORS": '["|", "\\u0006\\u0016"]', "PRIORITY_STEPS": "0,50-52,200"}
    with service.worker(**settings):
        for priority in (0, 50, 200):
            task_id = f"bar-{priority}"
            app.send_task("lookup.opay", kwargs={"requests": [GOOD]}, queue=QUEUE, priority=priority, task_id=task_id)
            assert service.results(task_id, 1)[0]["status"] == "found"


def test_a_list_that_no_worker_takes_from_is_told(service: Service) -> None:
    port = free_port()
    strays = [f"{QUEUE}|3", "lookup.opay.vip", f"{QUEUE}\x06\x1615", "lookup.OPAY.bulk"]
    for name in strays:
        service.redis.lpush(name, b"waits")
    with service.worker(METRICS_PORT=str(port)):
        found = until(lambda: all_ if len(all_ := status(service)["stray_lists"]) == len(strays) else None, pause=0.3)
        assert {each["name"]: each["waiting"] for each in found} == dict.fromkeys(strays, 1)
        attention = status(service)["attention"]
        assert any(f"'{QUEUE}|3': 1 message in a list that no worker takes from" in each for each in attention)
        until(
            lambda: True if "cardtoken_stray_messages 4.0" in requests.get(
                f"http://127.0.0.1:{port}/metrics", timeout=20
            ).text else None,
            pause=0.3,
        )  # fmt: skip
        assert all(service.redis.llen(name) == 1 for name in strays)


def test_the_finder_passes_a_part_of_the_keys_at_a_time_and_forgets_what_is_gone(service: Service) -> None:
    redis = service.redis
    redis.flushall()
    pipeline = redis.pipeline()
    for number in range(50_000):
        pipeline.set(f"other:{number}", 1)
    for name in ("lookup.x", QUEUE, f"{QUEUE}:3", f"{QUEUE}|3", f"{QUEUE}:77"):
        pipeline.rpush(name, 1)
    pipeline.set("lookup.no-list", 1)
    pipeline.execute()
    priorities = [":3", "|3"]
    finder = OtherListsFinder(redis, [QUEUE], priorities)
    for _ in range(4):
        finder.look()
    expected = {b"lookup.x": b"", f"{QUEUE}|3".encode(): QUEUE.encode(), f"{QUEUE}:77".encode(): b""}
    assert redis.hgetall(OTHER_LISTS) == expected
    redis.delete("lookup.x")
    OtherListsFinder(redis, [QUEUE], [*priorities, ":77"]).look()
    assert b"lookup.x" not in redis.hgetall(OTHER_LISTS)
    assert redis.hget(OTHER_LISTS, f"{QUEUE}:77") == QUEUE.encode()
    redis.flushall()


def test_the_most_urgent_is_claimed_first_with_any_separator(service: Service) -> None:
    names = ["", *suffixes((":", "\x06\x16"), (0, 1, 2))]
    for name in reversed(names):
        service.redis.lpush(QUEUE + name, name or "own")
    claims, _ = Claims(service.redis, 30, 1 << 20, RedisClock(service.redis)).take([QUEUE], 10)
    assert [claim.entry for claim in claims] == [b"own", b"\x06\x161", b":1", b"\x06\x162", b":2"]
    service.redis.flushall()
