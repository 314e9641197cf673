"""Publication against a real Redis: each result once, in each of its places, among other writers."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from redis import Redis

from cardtoken.contract import Category, Lane, LookupResult, TokenRecord
from cardtoken.providers import OpayRequest
from cardtoken.secret import CardToken
from sandbox.redis_server import RedisServer
from tasks.broker.claims import Claims
from tasks.lookups.lookup import Lookup, Settled
from tasks.lookups.outcomes import Failure, Found, NotFound, Outcome
from tasks.lookups.reader import RequestReader
from tasks.stores.clock import RedisClock
from tasks.stores.results import Bounds, ResultStore

DEFAULT, DEAD_LETTERS, REGISTRY = "token-records:default", "lookup:dead-letters", "lookup:result-queues"
READER = RequestReader(model=OpayRequest, deadlines={Lane.BULK: 30.0})
FOUND = Found(TokenRecord(value=CardToken("OPAY_TOKEN_visa"), brand="visa"))
GONE = Failure(Category.UNAVAILABLE, "System failure.", code="90", http_status=200)
TASK = "0b4f6a0e-6c1c-4a52-9d0e-2f3a5d1c7e11"
COMPLETED = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(redis: Redis) -> ResultStore:
    return bounded(redis)


def bounded(redis: Redis, results: int = 1000, dead_letters: int = 1000) -> ResultStore:
    return ResultStore(redis, Bounds(60, results), Bounds(60, dead_letters))


def lookups(*requests: object) -> list[Lookup]:
    return READER.read(list(requests), task_id=TASK, lane=Lane.BULK, now=COMPLETED - timedelta(seconds=1))


def settled(outcome: Outcome, count: int = 1, **fields: object) -> list[Settled]:
    requests = [{"opay_token": f"OPAY_TOKEN_{number}", **fields} for number in range(count)]
    return [Settled(replace(lookup, attempts=1), outcome, COMPLETED) for lookup in lookups(*requests)]


def publish(store: ResultStore, batch: list[Settled], task_id: str = TASK) -> int:
    return store.publish(task_id, "opay", Lane.BULK, batch)


def entries(redis: Redis, stream: str) -> list[dict[str, str]]:
    found: Any = redis.xrange(stream)
    return [{key.decode(): value.decode() for key, value in fields.items()} for _, fields in found]


def ids(redis: Redis, stream: str) -> list[str]:
    return [entry["lookup_id"] for entry in entries(redis, stream)]


def of(index: int) -> str:
    return f"{TASK}:{index}"


def keys(redis: Redis) -> set[str]:
    found: Any = redis.keys()
    return {key.decode() for key in found}


# --- once


def test_a_result_has_its_four_fields_and_is_the_contracts_record(redis: Redis, store: ResultStore) -> None:
    assert publish(store, settled(FOUND, lookup_id="mine", metadata={"order": "17"})) == 0
    (entry,) = entries(redis, DEFAULT)
    assert list(entry) == ["lookup_id", "status", "provider", "result"]
    assert (entry["lookup_id"], entry["status"], entry["provider"]) == ("mine", "found", "opay")
    result = json.loads(entry["result"])
    assert (result["task_id"], result["metadata"], result["attempts"]) == (TASK, {"order": "17"}, 1)
    assert result["token"]["value"] == "OPAY_TOKEN_visa"
    assert result["completed_at"] == "2026-01-31T12:00:00Z"
    assert LookupResult.from_json(entry["result"]).lookup_id == "mine"
    assert DEAD_LETTERS not in keys(redis)


def test_a_second_publication_changes_nothing(redis: Redis, store: ResultStore) -> None:
    assert publish(store, settled(FOUND, count=3)) == 0
    assert publish(store, settled(GONE, count=5)) == 3
    assert [(entry["lookup_id"], entry["status"]) for entry in entries(redis, DEFAULT)] == [
        (of(0), "found"),
        (of(1), "found"),
        (of(2), "found"),
        (of(3), "failed"),
        (of(4), "failed"),
    ]
    assert ids(redis, DEAD_LETTERS) == [of(3), of(4)]


def test_twenty_publications_in_the_same_moment_are_one(redis: Redis, store: ResultStore) -> None:
    together = Barrier(20)

    def at_once(_: int) -> int:
        together.wait()
        return publish(store, settled(GONE, count=150))

    with ThreadPoolExecutor(20) as threads:
        suppressed = list(threads.map(at_once, range(20)))
    assert sum(suppressed) == 19 * 150
    assert sorted(ids(redis, DEFAULT)) == sorted(of(number) for number in range(150))
    assert sorted(ids(redis, DEAD_LETTERS)) == sorted(of(number) for number in range(150))


def test_the_same_lookup_in_another_message_is_another_lookup(redis: Redis, store: ResultStore) -> None:
    batch = settled(FOUND, lookup_id="mine")
    assert publish(store, batch, "one") == publish(store, batch, "two") == 0
    assert ids(redis, DEFAULT) == ["mine", "mine"]


def test_the_same_id_twice_in_a_message_is_two_lookups(redis: Redis, store: ResultStore) -> None:
    publish(store, settled(FOUND, count=2, lookup_id="mine"))
    assert ids(redis, DEFAULT) == ["mine", "mine"]


def test_a_publication_is_remembered_for_a_day(redis: Redis, store: ResultStore) -> None:
    publish(store, settled(FOUND, count=2))
    ttls: list[Any] = [redis.ttl(key) for key in redis.keys("lookup:fence:*")]
    assert ttls
    # From now on, whenever in the day that is.
    assert all(86_400 < ttl <= 2 * 86_400 for ttl in ttls)
    assert store.published(TASK, range(500)) == {0, 1}
    assert store.published("another", range(5)) == set()


def test_five_hundred_results_in_one_call_are_five_hundred_entries(redis: Redis, store: ResultStore) -> None:
    batch = settled(GONE, count=500)
    assert publish(store, batch) == 0
    assert ids(redis, DEFAULT) == ids(redis, DEAD_LETTERS) == [of(number) for number in range(500)]
    assert store.published(TASK, range(500)) == set(range(500))
    assert publish(store, batch) == 500


def test_no_results_are_no_call(redis: Redis, store: ResultStore) -> None:
    assert publish(store, []) == 0
    assert keys(redis) == set()


@pytest.mark.parametrize(
    "task_id",
    [
        "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5",
        "6966af4975984c30ae2e2c18985bc21c",
        "order-17",
        TASK + "0",
        TASK.upper(),
        "x" * 255,
        "заказ 17",
        "卡" * 80,
        "a b",
        "{slot}",
        "name@example.com",
        "+201234567890",
    ],
)
def test_an_odd_task_id_stands_in_no_key(redis: Redis, store: ResultStore, task_id: str) -> None:
    batch = settled(FOUND)
    assert publish(store, batch, task_id) == 0
    assert publish(store, batch, task_id) == 1
    assert store.published(task_id, range(5)) == {0}
    (fence,) = keys(redis) - {DEFAULT, REGISTRY, "lookup:fences"}
    assert re.fullmatch(r"lookup:fence:\d+:0:\d+", fence)
    assert json.loads(entries(redis, DEFAULT)[0]["result"])["task_id"] == task_id


def test_different_odd_task_ids_are_told_apart(redis: Redis, store: ResultStore) -> None:
    for task_id in ("x" * 100, "x" * 101, "заказ 17", "заказ 18"):
        assert publish(store, settled(FOUND), task_id) == 0
    assert len(entries(redis, DEFAULT)) == 4


# --- dead letters


def test_a_dead_letter_has_the_contracts_fields(redis: Redis, store: ResultStore) -> None:
    request = {"opay_token": "OPAY_TOKEN_0", "lookup_id": "mine", "account": "second", "metadata": {"name": "Zoé"}}
    (lookup,) = lookups(request)
    publish(store, [Settled(replace(lookup, attempts=5), GONE, COMPLETED)])
    (letter,), (entry,) = entries(redis, DEAD_LETTERS), entries(redis, DEFAULT)
    assert json.loads(letter.pop("request")) == request
    assert letter.pop("result") == entry["result"]
    assert letter == {
        "lookup_id": "mine",
        "task_id": TASK,
        "provider": "opay",
        "account": "second",
        "lane": "bulk",
        "category": "unavailable",
        "code": "90",
        "failed_at": "2026-01-31T12:00:00Z",
    }
    assert json.loads(entry["result"])["error"] == {
        "category": "unavailable",
        "code": "90",
        "message": "System failure.",
        "http_status": 200,
        "retryable": True,
    }


@pytest.mark.parametrize("category", Category)
def test_only_what_someone_can_act_on_is_a_dead_letter(redis: Redis, store: ResultStore, category: Category) -> None:
    publish(store, settled(Failure(category, "why")))
    assert [entry["status"] for entry in entries(redis, DEFAULT)] == ["failed"]
    quiet = {Category.EXPIRED, Category.INVALID_REQUEST}
    assert [entry["category"] for entry in entries(redis, DEAD_LETTERS)] == ([] if category in quiet else [category])
    assert [entry["code"] for entry in entries(redis, DEAD_LETTERS)] == ([] if category in quiet else [""])


@pytest.mark.parametrize("outcome", [FOUND, NotFound()])
def test_a_lookup_that_ended_well_is_not_a_dead_letter(redis: Redis, store: ResultStore, outcome: Outcome) -> None:
    publish(store, settled(outcome))
    assert DEAD_LETTERS not in keys(redis)


# --- where to


def test_a_reply_queue_expires_after_its_last_write_and_is_not_swept(redis: Redis, store: ResultStore) -> None:
    stream = "token-records:reply.17"
    publish(store, settled(FOUND, reply_to="reply.17"), "one")
    ttl: Any = redis.ttl(stream)
    assert 290 <= ttl <= 300
    redis.expire(stream, 5)
    publish(store, settled(FOUND, reply_to="reply.17"), "two")
    ttl = redis.ttl(stream)
    assert 290 <= ttl <= 300
    assert len(entries(redis, stream)) == 2
    assert REGISTRY not in keys(redis)


def test_other_result_queues_do_not_expire_and_are_swept(redis: Redis, store: ResultStore) -> None:
    for name in ("default", "checkout", "replying"):
        publish(store, settled(FOUND, reply_to=name), name)
        assert redis.ttl(f"token-records:{name}") == -1
    assert redis.smembers(REGISTRY) == {b"token-records:default", b"token-records:checkout", b"token-records:replying"}


def test_one_message_can_have_several_result_queues(redis: Redis, store: ResultStore) -> None:
    batch = lookups(*({"opay_token": "OPAY_TOKEN_0", "reply_to": name} for name in ("a", "b", "reply.c", "a")))
    publish(store, [Settled(lookup, FOUND, COMPLETED) for lookup in batch])
    assert [ids(redis, f"token-records:{name}") for name in ("a", "b", "reply.c")] == [
        [of(0), of(3)],
        [of(1)],
        [of(2)],
    ]


def test_streams_keep_exactly_as_many_entries_as_they_may(redis: Redis) -> None:
    store = bounded(redis, results=120, dead_letters=7)
    publish(store, settled(GONE, count=300))
    assert ids(redis, DEFAULT) == [of(number) for number in range(180, 300)]
    assert ids(redis, DEAD_LETTERS) == [of(number) for number in range(293, 300)]


@pytest.mark.parametrize("outcome", [FOUND, NotFound(), GONE, Failure(Category.EXPIRED, "why")])
def test_a_queue_whose_key_holds_something_else_costs_no_result(
    redis: Redis, store: ResultStore, outcome: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set("token-records:taken", "by someone else")
    batch = lookups(*({"opay_token": "OPAY_TOKEN_0", "reply_to": name} for name in ("a", "taken", "a", "taken")))
    results = [Settled(lookup, outcome, COMPLETED) for lookup in batch]
    assert publish(store, results) == 0
    assert ids(redis, "token-records:a") == [of(0), of(2)]
    assert redis.get("token-records:taken") == b"by someone else"
    # With any outcome the result is there: it could be found nowhere else.
    strays = [entry for entry in entries(redis, DEAD_LETTERS) if entry["lookup_id"] in {of(1), of(3)}]
    assert [json.loads(entry["result"])["lookup_id"] for entry in strays] == [of(1), of(3)]
    expected = outcome.category if isinstance(outcome, Failure) else Category.INTERNAL
    assert {entry["category"] for entry in strays} == {expected}
    assert "2 results go to lookup:dead-letters alone" in caplog.text
    assert store.published(TASK, range(500)) == {0, 1, 2, 3}
    assert publish(store, results) == 4
    assert len(entries(redis, "token-records:a")) == 2


def test_no_key_and_no_fence_holds_what_was_asked_for(redis: Redis, store: ResultStore) -> None:
    publish(store, settled(FOUND, lookup_id="mine", metadata={"order": "confidential"}))
    publish(store, settled(GONE, lookup_id="mine"), TASK[:-1] + "2")
    others = keys(redis) - {DEFAULT, DEAD_LETTERS, REGISTRY, "lookup:fences"}
    assert all(re.fullmatch(r"lookup:fence:\d+:0:\d+", key) for key in others)
    members: list[Any] = [list(redis.smembers(key)) for key in others]
    assert all(re.fullmatch(rb"-?\d+", member) for found in members for member in found)


def test_a_claim_whose_results_went_with_a_lost_primary_is_worked_on_again(redis: Redis, store: ResultStore) -> None:
    """A primary that hung confirms a publication that its successor knows nothing of."""
    queue = "lookup.opay.bulk"
    claims = Claims(redis, 60, 1000, RedisClock(redis))
    redis.lpush(queue, b"message")

    def is_over() -> bool:
        [claim] = claims.take([queue], 1)[0]
        claims.published(claim.id, TASK, [0, 1])
        claims.end(claim.id)
        claims.settle()
        assert redis.zcard("lookup:leases") == 0
        return not redis.exists(f"lookup:claim:{claim.id}")

    assert not is_over(), "both are missing"
    publish(store, settled(FOUND, 1))
    assert not is_over(), "one is missing"
    publish(store, settled(FOUND, 2))
    assert is_over()
    assert claims.take([queue], 1)[0] == []


def test_a_claim_ends_where_what_goes_on_with_it_is_there_or_is_over(redis: Redis, store: ResultStore) -> None:
    queue = "lookup.opay.bulk"
    claims = Claims(redis, 60, 1000, RedisClock(redis))
    redis.lpush(queue, b"message")

    def is_over() -> bool:
        [claim] = claims.take([queue], 1)[0]
        claims.deferred(claim.id, "d1", TASK, [0, 1])
        claims.end(claim.id)
        claims.settle()
        return not redis.exists(f"lookup:claim:{claim.id}")

    assert not is_over(), "it is worked on again: nothing goes on with it"
    publish(store, settled(FOUND, 1))
    assert not is_over(), "one of two is out"
    publish(store, settled(FOUND, 2))
    assert is_over()
    redis.flushall()
    redis.lpush(queue, b"another")
    claims.defer("d1", queue, b"deferred", datetime.now(UTC) + timedelta(hours=1))
    assert is_over()
