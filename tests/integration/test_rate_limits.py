"""Reservation against a real Redis: the fleet keeps to a rate, and interactive lookups get theirs."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

from cardtoken.contract import Lane
from sandbox.redis_server import RedisServer
from tasks.stores.permits import RateLimits

RATE = 100.0


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    with redis_py.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def limits(redis: Any, account: str) -> RateLimits:
    return RateLimits(redis, {("opay", account): RATE, ("opay", f"{account}-2"): RATE}, 0.2)


@pytest.fixture
def account() -> str:
    """One that no other test has."""
    return uuid.uuid4().hex


def test_a_list_is_given_a_part_of_what_it_asks_for_each_for_its_moment(limits: RateLimits, account: str) -> None:
    begun = time.monotonic()
    given = limits.reserve("opay", account, Lane.BULK, 500)
    assert len(given.moments) == pytest.approx(0.5 * RATE * 0.8, abs=2)
    gaps = [late - early for early, late in zip(given.moments, given.moments[1:], strict=False)]
    assert gaps == pytest.approx([1 / (RATE * 0.8)] * len(gaps), abs=1e-4)
    more = limits.reserve("opay", account, Lane.BULK, 500)
    # One at once, and as many as there are gaps until the end of what is given ahead, which moves on meanwhile.
    assert len(given.moments) + len(more.moments) <= 1 + (0.5 + time.monotonic() - begun) * RATE * 0.8


def test_the_share_of_interactive_lookups_is_theirs(limits: RateLimits, account: str) -> None:
    limits.reserve("opay", account, Lane.BULK, 500)
    given = limits.reserve("opay", account, Lane.INTERACTIVE, 5)
    assert given.moments[0] == 0
    assert max(given.moments) <= 5 / (RATE * 0.2)


def test_interactive_lookups_have_all_where_there_is_no_bulk(limits: RateLimits, account: str) -> None:
    given = limits.reserve("opay", account, Lane.INTERACTIVE, 90)
    assert len(given.moments) == 90
    assert max(given.moments) == pytest.approx(90 / RATE, abs=0.1)


def test_a_caller_without_a_slot_learns_when_to_ask_again(limits: RateLimits, account: str) -> None:
    while (given := limits.reserve("opay", account, Lane.INTERACTIVE, 200)).moments:
        pass
    assert 0 <= given.wait <= 1


def test_accounts_have_limits_of_their_own(limits: RateLimits, account: str) -> None:
    limits.reserve("opay", account, Lane.BULK, 500)
    assert limits.reserve("opay", f"{account}-2", Lane.BULK, 1).moments == (0.0,)


def test_only_what_has_a_limit_is_limited(limits: RateLimits, account: str) -> None:
    assert limits.limits("opay", account)
    assert not limits.limits("opay", "another")
    assert not limits.limits("afterpay", account)
    assert limits.reserve("opay", "another", Lane.BULK, 3).moments == (0, 0, 0)


def test_a_rate_that_is_replaced_holds_from_the_next_permit_on(limits: RateLimits, redis: Any, account: str) -> None:
    limits.replace({("opay", account): 0.01})
    assert len(limits.reserve("opay", account, Lane.INTERACTIVE, 5).moments) == 2  # one of each part
    limits.replace({("opay", account): 100.0})
    faster = limits.reserve("opay", account, Lane.INTERACTIVE, 5)
    assert len(faster.moments) == 5
    assert faster.moments[0] == 0
    # A worker that has not taken up the new rate goes by the same moments.
    slower = RateLimits(redis, {("opay", account): 10.0}, 0.2)
    assert slower.reserve("opay", account, Lane.INTERACTIVE, 1).moments[0] > 0


def test_where_redis_cannot_answer_calls_go_on(account: str) -> None:
    with RedisServer() as server:
        client = redis_py.Redis.from_url(server.url)
    assert RateLimits(client, {("opay", account): RATE}, 0.2).reserve("opay", account, Lane.BULK, 3).moments == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize("lane", list(Lane))
def test_permits_are_given_again_when_the_clock_of_redis_has_gone_back(
    limits: RateLimits, redis: Any, account: str, lane: Lane
) -> None:
    limits.reserve("opay", account, Lane.INTERACTIVE, 500)
    key = f"lookup:rate:opay:{account}"
    for part in ("bulk", "interactive"):
        redis.hincrbyfloat(key, part, 40e6)
    given = limits.reserve("opay", account, lane, 5)
    assert given.moments[0] == 0


def test_a_seldom_permit_is_not_taken_for_a_clock_that_went_back(redis: Any, account: str) -> None:
    seldom = RateLimits(redis, {("opay", account): 0.01}, 0)
    assert seldom.reserve("opay", account, Lane.BULK, 1).moments == (0.0,)
    assert seldom.reserve("opay", account, Lane.BULK, 1).moments == ()
