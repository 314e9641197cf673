"""Claims against a real Redis: what two workers do to each other, and what Redis does to both."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis, ResponseError
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cardtoken.connection import Endpoint
from sandbox.faulty_proxy import FaultyProxy
from sandbox.redis_server import RedisServer
from tasks.broker.claims import Claims
from tasks.stores.clock import RedisClock

QUEUE = "lookup.opay.bulk"
OTHER = "lookup.opay.interactive"
LEASE, LONGEST = 0.2, 1000


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client
        client.config_set("maxmemory", 0)


def claims_of(redis: Redis, lease: float = LEASE) -> Claims:
    return Claims(redis, lease, LONGEST, RedisClock(redis))


@pytest.fixture
def claims(redis: Redis) -> Claims:
    return claims_of(redis)


def deaths(claims: Claims, queue: str = QUEUE) -> list[int]:
    return [claim.deaths for claim in claims.take([queue], 100)[0]]


def test_an_entry_over_the_limit_is_claimed_and_not_read(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"x" * LONGEST, b"y" * (LONGEST + 1))
    whole, long = claims.take([QUEUE], 2)[0]
    assert (whole.entry, whole.size) == (b"x" * LONGEST, LONGEST)
    assert (long.entry, long.size) == (None, LONGEST + 1)


def test_a_deferred_entry_is_read_at_any_length(redis: Any, claims: Claims) -> None:
    claims.defer("d1", QUEUE, b"z" * (LONGEST * 2), datetime.now(UTC))
    [claim] = claims.take([QUEUE], 1)[0]
    assert (claim.id, claim.deferred, claim.size) == ("d1", True, LONGEST * 2)


def test_an_entry_deferred_twice_under_one_id_exists_once_and_stays_taken(redis: Any, claims: Claims) -> None:
    for _ in range(2):
        claims.defer("d1", QUEUE, b"{}", datetime.now(UTC))
    assert len(claims.take([QUEUE], 5)[0]) == 1
    claims.defer("d1", QUEUE, b"{}", datetime.now(UTC))
    assert claims.take([QUEUE], 5)[0] == []


@pytest.mark.parametrize("step", range(10))
def test_a_list_of_any_priority_is_a_part_of_its_queue(redis: Any, claims: Claims, step: int) -> None:
    redis.lpush(f"{QUEUE}\x06\x16{step}" if step else QUEUE, b"{}")
    assert len(claims.take([QUEUE], 1)[0]) == 1


@pytest.mark.parametrize("key", [QUEUE, f"lookup:given-back:{QUEUE}", f"lookup:delayed:{QUEUE}", f"{QUEUE}\x06\x163"])
def test_a_key_of_another_type_costs_the_other_queues_nothing(redis: Any, claims: Claims, key: str) -> None:
    redis.set(key, "another program's")
    redis.lpush(OTHER, b"1", b"2")
    taken = claims.take([OTHER, QUEUE], 10)[0] + claims.take([QUEUE, OTHER], 10)[0]
    assert [claim.entry for claim in taken] == [b"1", b"2"]


def test_a_message_handed_back_twice_before_its_first_delivery_ended_is_kept(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"{}")
    for _ in range(2):
        [claim] = claims.take([QUEUE], 1)[0]
        assert claims.begin(claim.id)
        claims.release_unstarted(claim.id)
        claims.settle()
    claims.end(claim.id)
    claims.end(claim.id)
    claims.settle()
    [again] = claims.take([QUEUE], 1)[0]
    assert (again.id, claims.begin(again.id)) == (claim.id, True)
    claims.end(again.id)
    claims.settle()
    assert not redis.exists(f"lookup:claim:{claim.id}")


def test_the_time_of_the_first_sight_outlasts_a_worker(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"{}")
    [first] = claims.take([QUEUE], 1)[0]
    time.sleep(0.1)
    claims.release(first.id)
    claims.settle()
    [second] = claims_of(redis).take([QUEUE], 1)[0]
    assert first.age == 0
    assert 0.1 <= second.age < 5


def test_waiting_for_an_eta_is_not_being_seen(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"{}")
    [claim] = claims.take([QUEUE], 1)[0]
    claims.postpone(claim, datetime.now(UTC) + timedelta(seconds=0.1))
    assert claims.take([QUEUE], 1)[0] == []
    time.sleep(0.15)
    [again] = claims.take([QUEUE], 1)[0]
    assert (again.id, again.age, again.taken) == (claim.id, 0, 1)


def test_a_delayed_entry_is_never_early(redis: Any, claims: Claims) -> None:
    due = datetime.now(UTC) + timedelta(milliseconds=20.9)
    claims.defer("d1", QUEUE, b"{}", due)
    while not claims.take([QUEUE], 1)[0]:
        pass
    assert datetime.now(UTC) >= due


def test_leases_are_renewed_while_memory_is_full(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"{}")
    claims.take([QUEUE], 1)
    redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        redis.set("more", "x" * 100)
    end = time.monotonic() + LEASE * 3
    while time.monotonic() < end:
        claims.maintain_leases()
        time.sleep(LEASE / 10)
    assert redis.zrange("lookup:leases", 0, -1, withscores=True)[0][1] > time.time() * 1000
    assert len(claims) == 1


def test_a_worker_with_many_claims_keeps_them_all(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, *[b"{}"] * 1000)
    while claims.take([QUEUE], 100)[0]:
        pass
    time.sleep(LEASE + 0.05)  # all have run out, and no worker has looked
    claims.maintain_leases()
    assert len(claims) == 1000
    assert not redis.exists(f"lookup:given-back:{QUEUE}")


def test_the_claims_of_a_dead_worker_go_back_and_count(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, *[b"{}"] * 450)
    while claims.take([QUEUE], 100)[0]:
        pass
    time.sleep(LEASE + 0.05)
    other = claims_of(redis)
    other.maintain_leases()
    assert redis.llen(f"lookup:given-back:{QUEUE}") == 450
    assert deaths(other) == [1] * 100


def test_after_an_outage_no_worker_is_taken_for_dead_before_all_could_renew(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"{}")
    other = claims_of(redis)
    other.maintain_leases()
    claims.take([QUEUE], 1)
    time.sleep(LEASE + 0.05)  # neither could keep anything
    other.maintain_leases()
    claims.maintain_leases()
    assert len(claims) == 1
    end = time.monotonic() + LEASE * 3
    while time.monotonic() < end:  # and the one that never comes back is found out
        other.maintain_leases()
        time.sleep(LEASE / 10)
    assert deaths(other) == [1]


def test_a_message_not_begun_goes_back_and_cannot_be_begun_here(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"1", b"2")
    begun, waiting = claims.take([QUEUE], 2)[0]
    assert claims.begin(begun.id)
    claims.release_unbegun()
    claims.settle()
    other = claims_of(redis)
    [taken] = other.take([QUEUE], 5)[0]
    assert taken.id == waiting.id
    assert not claims.begin(waiting.id)
    claims.end(waiting.id)  # as Celery does with a task that ends without a word
    claims.end(begun.id)
    claims.settle()
    assert redis.keys("lookup:claim:*") == [f"lookup:claim:{waiting.id}".encode()]


def test_a_message_that_came_back_while_its_first_delivery_waited_is_begun_once(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"1")
    [claim] = claims.take([QUEUE], 1)[0]
    claims.release_unbegun()
    claims.settle()
    [again] = claims.take([QUEUE], 1)[0]
    assert again.id == claim.id
    assert [claims.begin(claim.id), claims.begin(again.id)] == [True, False]
    claims.end(again.id)  # the delivery that was not begun ends without a word
    claims.settle()
    assert redis.zcard("lookup:leases") == 1
    claims.end(claim.id)
    claims.settle()
    assert redis.keys("*") == []


def test_leases_are_renewed_where_nothing_can_be_settled(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"1", b"2")
    first, second = claims.take([QUEUE], 2)[0]
    redis.set(f"lookup:given-back:{QUEUE}", "another program's")
    claims.release(first.id)
    time.sleep(LEASE / 2)
    with pytest.raises(ResponseError):
        claims.maintain_leases()
    assert redis.zscore("lookup:leases", second.id) > time.time() * 1000 + LEASE * 900


def test_after_everything_went_back_nothing_is_taken(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"1", b"2")
    claims.take([QUEUE], 1)
    claims.release_all()
    assert claims.take([QUEUE], 2) == ([], None)
    assert not redis.zcard("lookup:leases")
    assert [claim.entry for claim in claims_of(redis).take([QUEUE], 5)[0]] == [b"1", b"2"]


def test_a_claim_that_has_ended_does_not_come_to_be_again(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"1")
    [claim] = claims.take([QUEUE], 1)[0]
    claims.end(claim.id)
    claims.settle()
    claims.mark_running(claim.id, 3)
    assert redis.keys("*") == []


def test_a_message_that_another_worker_ended_is_not_claimed(redis: Any, claims: Claims) -> None:
    redis.rpush(f"lookup:given-back:{QUEUE}", "gone")
    redis.hset("lookup:claim:gone", "suspect", 1)
    redis.lpush(QUEUE, b"1")
    assert [claim.entry for claim in claims.take([QUEUE], 5)[0]] == [b"1"]
    assert not redis.exists("lookup:claim:gone")


# --- clocks that jump

HOUR = 3_600.0


class SetForward(Redis):
    """A server as it looks before its clock is set forward: ``back`` is by how many seconds."""

    back = 0.0

    def time(self, **_: Any) -> Any:
        seconds, micros = super().time()
        return seconds - self.back, micros


def milliseconds(redis: Any) -> float:
    seconds, micros = redis.time()
    return float(seconds * 1000 + micros / 1000)


def taken_over(claims: Claims, within: float) -> list[int]:
    end = time.monotonic() + within
    while time.monotonic() < end:
        claims.maintain_leases()
        if found := deaths(claims):
            return found
        time.sleep(LEASE / 10)
    return []


def test_a_lease_given_before_redis_clock_went_back_holds_for_a_lease_and_no_longer(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"{}")
    [claim] = claims.take([QUEUE], 1)[0]
    redis.zadd("lookup:leases", {claim.id: milliseconds(redis) + HOUR * 1000})
    other = claims_of(redis)
    other.maintain_leases()
    assert not deaths(other)  # its worker may live, and renew it
    assert taken_over(other, within=10) == [1]


def test_the_living_keep_their_messages_when_redis_clock_goes_back(redis: Any, claims: Claims) -> None:
    redis.lpush(QUEUE, b"{}")
    [claim] = claims.take([QUEUE], 1)[0]
    redis.zadd("lookup:leases", {claim.id: milliseconds(redis) + HOUR * 1000})
    other = claims_of(redis)
    end = time.monotonic() + LEASE * 3
    while time.monotonic() < end:
        claims.maintain_leases()
        other.maintain_leases()
        time.sleep(LEASE / 20)
    assert (len(claims), deaths(other)) == (1, [])


@pytest.mark.parametrize("seconds", [40.0, HOUR])
def test_a_delay_is_no_longer_because_redis_clock_went_back(redis: Any, claims: Claims, seconds: float) -> None:
    claims.take([QUEUE], 1)
    claims.maintain_leases()
    now = milliseconds(redis)
    for name, wait in {"soon": 100.0, "late": 60_000.0}.items():
        claims.defer(name, QUEUE, b"{}", datetime.now(UTC))
        redis.zadd(f"lookup:delayed:{QUEUE}", {name: now + seconds * 1000 + wait})
    redis.hset("lookup:clock", QUEUE, now + seconds * 1000)
    claims.maintain_leases()
    left = redis.zscore(f"lookup:delayed:{QUEUE}", "late") - now
    assert 60_000 - 1 <= left < 80_000  # and the time that passed between the two
    claims.maintain_leases()  # once, and not again
    assert redis.zscore(f"lookup:delayed:{QUEUE}", "late") - now == left
    assert taken_ids(claims, 10) == ["soon"]


def taken_ids(claims: Claims, within: float) -> list[str]:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := claims.take([QUEUE], 5)[0]:
            return [claim.id for claim in found]
        time.sleep(0.01)
    return []


def test_a_delay_of_any_length_is_kept_while_no_clock_goes_back(redis: Any, claims: Claims) -> None:
    claims.defer("long", QUEUE, b"{}", datetime.now(UTC) + timedelta(days=400))
    claims.take([QUEUE], 1)
    before = redis.zscore(f"lookup:delayed:{QUEUE}", "long")
    for _ in range(3):
        claims.maintain_leases()
    assert redis.zscore(f"lookup:delayed:{QUEUE}", "long") == before


def test_a_living_worker_keeps_its_claims_when_redis_clock_is_set_forward(
    redis_server: RedisServer, redis: Any
) -> None:
    with SetForward.from_url(redis_server.url) as earlier:
        lease = 2.0
        worker = claims_of(redis, lease)
        redis.lpush(QUEUE, b"{}")
        [claim] = worker.take([QUEUE], 1)[0]
        earlier.back = HOUR
        other = claims_of(earlier, lease)
        other._clock.measure()
        earlier.back = 0.0
        redis.zadd("lookup:leases", {claim.id: milliseconds(redis) - HOUR * 1000 + lease * 1000})
        other.maintain_leases()
        worker.maintain_leases()
        other.maintain_leases()
        assert (len(worker), deaths(other)) == (1, [])


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_this_hosts_clock_changes_no_lease_and_no_takeover(
    redis: Any, claims: Claims, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    redis.lpush(QUEUE, b"{}")
    claims.take([QUEUE], 1)
    other = claims_of(redis)
    other.maintain_leases()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    other._clock._wall = time.time
    other.maintain_leases()
    began = time.monotonic()
    assert taken_over(other, within=10) == [1]
    assert time.monotonic() - began < LEASE + 3


@pytest.mark.parametrize("kind", ["waiting", "given back", "due"])
def test_a_message_taken_by_a_call_whose_answer_got_lost_does_not_wait_for_its_lease(
    redis: Any, redis_server: RedisServer, kind: str
) -> None:
    assert redis_server.port is not None
    with FaultyProxy(redis_server.port) as proxy:
        claims = claims_of(Endpoint(proxy.url, socket_timeout=0.3).connect(), lease=600)
        redis.lpush(QUEUE, b"held")
        [held] = claims.take([QUEUE], 1)[0]
        if kind == "due":
            claims.defer("d1", QUEUE, b"lost", datetime.now(UTC))
        else:
            redis.lpush(QUEUE, b"lost")
        if kind == "given back":
            claims.release(claims.take([QUEUE], 1)[0][0].id)
            claims.settle()
        proxy.lose_answers()
        with pytest.raises(RedisTimeoutError):
            claims.take([QUEUE], 5)
        assert redis.zcard("lookup:leases") == 2
        assert [claim.entry for claim in claims.take([QUEUE], 5)[0]] == [b"lost"]
        assert redis.hget(f"lookup:claim:{held.id}", "worker") == claims.worker.encode()
