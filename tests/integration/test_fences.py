"""What refuses a second publication: exactly, in a few bytes, and side by side with the release before."""

import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from cardtoken.contract import Category, Lane
from cardtoken.providers import OpayRequest
from sandbox.redis_server import RedisServer
from tasks.lookups.lookup import Settled
from tasks.lookups.outcomes import Failure
from tasks.lookups.reader import RequestReader
from tasks.stores import fences
from tasks.stores.presence import forget_dead_workers
from tasks.stores.results import Bounds, ResultStore

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
READER = RequestReader(model=OpayRequest, deadlines={Lane.BULK: 30.0})
EXPIRED = Failure(Category.EXPIRED, "why")
DAY = 86_400


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(redis: Redis) -> ResultStore:
    return ResultStore(redis, Bounds(60, 1), Bounds(60, 1))


def publish(store: ResultStore, task_id: str, count: int = 1) -> int:
    """Answers how many of its lookups had been published before."""
    requests: list[object] = [{"opay_token": "OPAY_TOKEN_visa"}] * count
    lookups = READER.read(requests, task_id=task_id, lane=Lane.BULK, now=NOW)
    return store.publish(task_id, "opay", Lane.BULK, [Settled(lookup, EXPIRED, NOW) for lookup in lookups])


def sets(redis: Any) -> dict[str, int]:
    return {key.decode(): redis.scard(key) for key in redis.keys("lookup:fence:*")}


def test_a_finished_single_lookup_leaves_twenty_bytes_at_most(redis: Any, store: ResultStore) -> None:
    count = 10_000
    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(lambda _: publish(store, str(uuid4())), range(count))) == 0
    held = sum(redis.memory_usage(key) for key in redis.keys("lookup:fence:*"))
    assert held / count < 20
    assert not redis.keys("lookup:published:*")
    assert sum(sets(redis).values()) == count


def test_every_publication_is_refused_the_second_time_at_any_volume(
    redis: Any, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each bucket had the lookups of hundreds: all have the same one.
    own = fences.fence
    monkeypatch.setattr(fences, "fence", lambda task_id, index: (7, own(task_id, index)[1]))
    tasks = [f"task-{number}" for number in range(4)]
    assert [publish(store, task, 400) for task in tasks] == [0] * 4
    assert [publish(store, task, 400) for task in tasks] == [400] * 4
    assert sorted(sets(redis).values()) == [64, 512, 512, 512]
    assert [len(store.published(task, range(500))) for task in tasks] == [400] * 4
    assert {redis.object("encoding", key) for key in sets(redis)} == {b"intset"}


@pytest.mark.parametrize(("days", "refused"), [(0, 1), (-1, 1), (1, 1), (-2, 0)])
def test_a_fence_holds_over_midnight_and_where_the_clock_was_set(
    redis: Any, store: ResultStore, days: int, refused: int
) -> None:
    publish(store, "task")
    [key] = sets(redis)
    _, _, day, rest = key.split(":", 3)
    redis.rename(key, f"lookup:fence:{int(day) + days}:{rest}")
    assert len(store.published("task", [0])) == refused
    assert publish(store, "task") == refused


def test_different_lookups_have_different_fences() -> None:
    found = {fences.fence(task, index) for task, index in itertools.product(("a", "b", "a:1", "1"), range(500))}
    assert len(found) == 2000
    assert all(0 <= bucket < 1 << 32 and -(1 << 63) <= member < 1 << 63 for bucket, member in found)


def test_a_user_of_redis_who_may_not_count_members_publishes_all_the_same(
    redis_server: RedisServer, redis: Any, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.acl_setuser("upgraded", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-scard"])
    own = fences.fence
    monkeypatch.setattr(fences, "fence", lambda task_id, index: (7, own(task_id, index)[1]))
    try:
        with Redis.from_url(redis_server.url, username="upgraded", password="") as upgraded:
            store = ResultStore(upgraded, Bounds(60, 1), Bounds(60, 1))
            assert [publish(store, task, 400) for task in ("a", "b", "a", "b")] == [0, 0, 400, 400]
        assert sorted(sets(redis).values()) == [288, 512]
    finally:
        redis.acl_deluser("upgraded")


# --- beside the release before, which knows one set for each task id


def before(task_id: str) -> str:
    return f"lookup:published:{hashlib.sha256(task_id.encode()).hexdigest()}"


def test_results_published_by_the_previous_release_are_not_published_again(redis: Any, store: ResultStore) -> None:
    redis.sadd(before("task"), 0, 2)
    assert store.published("task", range(4)) == {0, 2}
    assert publish(store, "task", 4) == 2


def test_a_worker_of_the_previous_release_sees_what_this_one_published(redis: Any, store: ResultStore) -> None:
    redis.sadd("lookup:workers", "new", "old")
    redis.sadd("lookup:workers:fence-readers", "new")
    publish(store, "task", 3)
    assert redis.smembers(before("task")) == {b"0", b"1", b"2"}
    assert DAY - 60 < redis.ttl(before("task")) <= DAY
    # It may only be frozen, so that goes on for a day.
    redis.srem("lookup:workers", "old")
    publish(store, "another")
    assert redis.exists(before("another"))


def test_the_sweep_remembers_that_a_worker_of_the_release_before_was_there(redis: Any, store: ResultStore) -> None:
    publish(store, "first")
    redis.sadd("lookup:workers", "old")
    forget_dead_workers(redis)
    assert not redis.exists("lookup:workers")
    publish(store, "task")
    assert redis.exists(before("task"))
    assert not redis.exists(before("first"))


@pytest.mark.parametrize("trace", ["results", "dead letters", "sweep"])
def test_where_the_release_before_has_published_its_fences_are_set_for_a_day(
    redis: Any, store: ResultStore, trace: str
) -> None:
    if trace == "results":
        redis.sadd("lookup:result-queues", "token-records:default")
    elif trace == "dead letters":
        redis.xadd("lookup:dead-letters", {"lookup_id": "x"})
    else:
        redis.set("lookup:sweep-lock", 1)
    publish(store, "task")
    assert redis.exists(before("task"))
    redis.set("lookup:fences", int(redis.time()[0]) - 1)  # a day later
    publish(store, "later")
    assert not redis.exists(before("later"))


def test_workers_of_this_release_alone_set_only_their_own(redis: Any, store: ResultStore) -> None:
    redis.sadd("lookup:workers", "a", "b")
    redis.sadd("lookup:workers:fence-readers", "a", "b")
    for number in range(3):
        publish(store, f"task-{number}")
    assert not redis.keys("lookup:published:*")
