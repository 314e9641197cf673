"""The sweep against a real Redis: nothing is kept too long, in quiet queues either, and no consumer group is lost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis import Redis

from sandbox.redis_server import RedisServer
from sandbox.waiting import until
from tasks.periodic import Periodic
from tasks.stores.results import Bounds
from tasks.stores.retention import Retention

DEAD_LETTERS, QUARANTINE = "lookup:dead-letters", "lookup:quarantine"
REGISTRY, LOCK = "lookup:result-queues", "lookup:sweep-lock"
QUEUE = "token-records:checkout"
LONG = Bounds(3600, 1000)


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


def fill(redis: Redis, stream: str, *ages: float) -> list[bytes]:
    """Entries so many seconds old, the oldest first; answers their ids."""
    now, _ = clock(redis)
    added = [redis.xadd(stream, {"n": n}, id=f"{now - int(age * 1000)}-{n}") for n, age in enumerate(ages)]
    if stream.startswith("token-records:"):
        redis.sadd(REGISTRY, stream)
    return [bytes(each) for each in added if isinstance(each, bytes)]


def clock(redis: Redis) -> tuple[int, int]:
    seconds, micros = redis.time()
    return seconds * 1000 + micros // 1000, micros


def left(redis: Redis, stream: str) -> list[bytes]:
    found: Any = redis.xrange(stream)
    return [each for each, _ in found]


def sweep(redis: Redis, results: Bounds = LONG, dead_letters: Bounds = LONG) -> int:
    return Retention(redis, results, dead_letters).sweep()


# --- what is trimmed


def test_a_quiet_queue_loses_what_is_too_old(redis: Redis) -> None:
    added = fill(redis, QUEUE, 3700, 3601, 3500, 0)
    assert sweep(redis) == 2
    assert left(redis, QUEUE) == added[2:]


def test_an_entry_is_kept_for_its_time_and_no_longer(redis: Redis) -> None:
    fill(redis, QUEUE, 0)
    one_second = Bounds(1, 1000)
    assert sweep(redis, one_second) == 0
    began = time.monotonic()
    until(lambda: sweep(redis, one_second) or None, timeout=5)
    assert 0.8 < time.monotonic() - began < 2
    assert not redis.exists(QUEUE)


def test_a_queue_loses_what_is_too_much_exactly(redis: Redis) -> None:
    # More than a node of the stream: an approximate trim would leave some.
    added = fill(redis, QUEUE, *[0] * 250)
    assert sweep(redis, Bounds(3600, 120)) == 130
    assert left(redis, QUEUE) == added[130:]


@pytest.mark.parametrize("stream", [DEAD_LETTERS, QUARANTINE])
def test_dead_letters_and_quarantine_have_bounds_of_their_own(redis: Redis, stream: str) -> None:
    added = fill(redis, stream, 100, 90, 80, 70, 0)
    kept = fill(redis, QUEUE, 100, 0)
    assert sweep(redis, dead_letters=Bounds(95, 3)) == 2
    assert left(redis, stream) == added[2:]
    assert left(redis, QUEUE) == kept


def test_every_queue_is_swept(redis: Redis) -> None:
    for number in range(300):
        fill(redis, f"token-records:queue-{number}", 3700, 0)
    assert sweep(redis) == 300
    assert redis.scard(REGISTRY) == 300


def test_a_retention_longer_than_redis_time_deletes_nothing(redis: Redis) -> None:
    added = fill(redis, QUEUE, 3700, 0)
    assert sweep(redis, Bounds(10**12, 1000)) == 0
    assert left(redis, QUEUE) == added


# --- what stays


def test_consumer_groups_stay_where_everything_is_trimmed(redis: Redis) -> None:
    fill(redis, QUEUE, 3700)
    redis.xgroup_create(QUEUE, "readers", id="0")
    redis.xreadgroup("readers", "one", {QUEUE: ">"})
    for _ in range(2):
        sweep(redis)
    assert redis.xlen(QUEUE) == 0
    groups: Any = redis.xinfo_groups(QUEUE)
    assert [group["name"] for group in groups] == [b"readers"]
    assert redis.smembers(REGISTRY) == {QUEUE.encode()}
    (added,) = fill(redis, QUEUE, 0)
    read: Any = redis.xreadgroup("readers", "one", {QUEUE: ">"})
    assert str(added.decode()) in str(read)


def test_an_empty_queue_without_a_group_is_forgotten(redis: Redis) -> None:
    fill(redis, QUEUE, 3700)
    assert sweep(redis) == 1
    assert redis.keys() == []


def test_a_queue_that_is_gone_is_forgotten(redis: Redis) -> None:
    fill(redis, QUEUE, 0)
    fill(redis, "token-records:deleted", 0)
    redis.delete("token-records:deleted")
    assert sweep(redis) == 0
    assert redis.smembers(REGISTRY) == {QUEUE.encode()}


def test_a_key_of_another_kind_is_left_alone_and_stops_nothing(redis: Redis) -> None:
    redis.set(QUEUE, "by someone else")
    redis.sadd(REGISTRY, QUEUE)
    redis.set(QUARANTINE, "by someone else")
    fill(redis, "token-records:other", 3700)
    fill(redis, DEAD_LETTERS, 3700)
    assert sweep(redis) == 2
    assert redis.get(QUEUE) == redis.get(QUARANTINE) == b"by someone else"


def test_reply_queues_are_left_to_their_expiry(redis: Redis) -> None:
    redis.xadd("token-records:reply.17", {"n": 1}, id="1-1")
    assert sweep(redis) == 0
    assert redis.exists("token-records:reply.17")


# --- who sweeps


def sweeping(redis: Redis) -> Periodic:
    """A thread that wants to sweep every half second."""
    retention = Retention(redis, Bounds(1, 1000), LONG)
    return Periodic("retention", retention.sweep_for_all, retention.pause)


def calls(redis: Redis, command: str) -> int:
    """How often the server has run it."""
    stats: Any = redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_one_worker_of_several_sweeps_at_a_time(redis: Redis, redis_server: RedisServer) -> None:
    with ExitStack() as stack:
        for _ in range(6):
            client = stack.enter_context(Redis.from_url(redis_server.url))
            retention = sweeping(client)
            stack.callback(retention.stop)
            retention.start()
        before = calls(redis, "evalsha")
        until(lambda: True if calls(redis, "evalsha") > before else None, timeout=5)
        before, began = calls(redis, "evalsha"), time.monotonic()
        until(lambda: True if calls(redis, "evalsha") >= before + 4 else None, timeout=5)
        # Two scripts a sweep, dead letters and quarantine: the second sweep from here on is half a second away.
        assert time.monotonic() - began > 0.4


def test_a_worker_that_finds_the_lock_taken_does_not_sweep(redis: Redis, redis_server: RedisServer) -> None:
    fill(redis, QUEUE, 3700)
    redis.set(LOCK, 1)
    with Redis.from_url(redis_server.url) as client:
        retention = sweeping(client)
        before = calls(redis, "set")
        retention.start()
        try:
            until(lambda: True if calls(redis, "set") >= before + 2 else None, timeout=5)
            assert redis.exists(QUEUE)
            redis.delete(LOCK)
            until(lambda: None if redis.exists(QUEUE) else True, timeout=5)
        finally:
            retention.stop()
    # The lock runs out by itself, also when its holder has died.
    ttl: Any = redis.pttl(LOCK)
    assert ttl <= 450


def test_a_sweep_survives_a_redis_that_goes_away(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as server, Redis.from_url(server.url) as client:
        retention = sweeping(client)
        retention.start()
        try:
            server.kill()
            until(lambda: True if "Redis cannot be asked" in caplog.text else None, timeout=5)
            server.start()
            fill(client, QUEUE, 3700)
            until(lambda: None if client.exists(QUEUE) else True, timeout=5)
        finally:
            retention.stop()
    assert caplog.text.count("Redis cannot be asked") == 1
