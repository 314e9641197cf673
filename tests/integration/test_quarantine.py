"""The quarantine against a real Redis: bytes are kept as they are, and as many of them as promised."""

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis, RedisError

from cardtoken.contract import parse_time
from sandbox.redis_server import RedisServer
from tasks.broker.claims import Claims
from tasks.stores.clock import RedisClock
from tasks.stores.quarantine import Quarantine
from tasks.stores.results import Bounds

STREAM = "lookup:quarantine"
QUEUE = "lookup.opay.bulk"
LARGEST = 16 << 20


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def quarantine(redis: Redis) -> Quarantine:
    return Quarantine(redis, Bounds(3600, 100), RedisClock(redis))


def put(redis: Redis, quarantine: Quarantine, raw: bytes, reason: str) -> None:
    """Push an entry, claim it as a worker does, and move it to quarantine."""
    redis.lpush(QUEUE, raw)
    [claim], _ = Claims(redis, 30, sys.maxsize, RedisClock(redis)).take([QUEUE], 1)
    assert claim.entry == raw
    quarantine.add(claim.id, reason)
    assert not redis.keys("lookup:claim:*"), "nothing of it is left elsewhere"
    assert not redis.zcard("lookup:leases")


def entries(redis: Redis) -> list[dict[bytes, bytes]]:
    found: Any = redis.xrange(STREAM)
    return [fields for _, fields in found]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not JSON",
        bytes(range(256)) * 3,
        b"\x00\r\n$5\r\n*1\r\n",
        "卡 \u202e".encode(),
        b"\xff\xfe\xed\xa0\x80",
        json.dumps({"body": "x" * 5000}).encode(),
        os.urandom(1 << 20),
    ],
    ids=["nothing", "text", "every byte", "Redis' own", "Unicode", "no Unicode", "JSON", "a megabyte"],
)
def test_an_entry_is_kept_byte_for_byte(redis: Redis, quarantine: Quarantine, raw: bytes) -> None:
    put(redis, quarantine, raw, "the entry is not JSON")
    (entry,) = entries(redis)
    assert entry.pop(b"raw") == raw
    at = parse_time(entry.pop(b"quarantined_at").decode())
    assert abs(datetime.now(UTC) - at) < timedelta(seconds=10)
    assert entry == {b"queue": QUEUE.encode(), b"reason": b"the entry is not JSON"}


def test_an_entry_of_16_mib_is_kept_whole(redis: Redis, quarantine: Quarantine) -> None:
    raw = os.urandom(1 << 16) * 256
    assert len(raw) == LARGEST
    put(redis, quarantine, raw, "larger than the limit")
    (entry,) = entries(redis)
    assert entry[b"raw"] == raw
    assert b"truncated_from" not in entry


@pytest.mark.parametrize("over", [1, 4 << 20])
def test_a_larger_entry_is_kept_by_its_beginning_and_its_length(
    redis: Redis, quarantine: Quarantine, over: int
) -> None:
    raw = os.urandom(1 << 17) + bytes(LARGEST + over - (1 << 17))
    put(redis, quarantine, raw, "larger than the limit")
    (entry,) = entries(redis)
    assert entry[b"raw"] == raw[: 64 << 10]
    assert int(entry[b"truncated_from"]) == LARGEST + over


def test_equal_entries_are_kept_each(redis: Redis, quarantine: Quarantine) -> None:
    for _ in range(3):
        put(redis, quarantine, b"the same", "why")
    assert len(entries(redis)) == 3


def test_the_newest_entries_are_kept_exactly_as_many_as_there_may_be(redis: Redis, quarantine: Quarantine) -> None:
    for number in range(350):
        put(redis, quarantine, str(number).encode(), "why")
    assert [entry[b"raw"] for entry in entries(redis)] == [str(number).encode() for number in range(250, 350)]


def test_a_redis_that_is_away_is_an_error_for_the_caller() -> None:
    with RedisServer() as server, Redis.from_url(server.url) as client:
        server.kill()
        with pytest.raises(RedisError):
            Quarantine(client, Bounds(3600, 100), RedisClock(client)).add("a-claim", "why")
