"""Circuits against a real Redis: when one opens, who tries it, and what closes it."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

from cardtoken.circuits import circuits, close, hold_open
from sandbox.redis_server import RedisServer
from tasks.stores import circuits as module
from tasks.stores.circuits import FIRST, LONGEST, VOLUME, Circuits
from tests.harness import until

PATIENCE = 0.4


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    with redis_py.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def provider() -> str:
    """A provider that no other test has."""
    return f"p{uuid.uuid4().hex[:8]}"


@pytest.fixture
def one(redis: Any) -> Circuits:
    return Circuits(redis, PATIENCE)


@pytest.fixture
def other(redis: Any) -> Circuits:
    """Another worker's."""
    return Circuits(redis, PATIENCE)


def calls(circuits: Circuits, provider: str, good: int, bad: int, account: str = "a") -> None:
    for _ in range(good):
        circuits.count(provider, account, healthy=True)
    for _ in range(bad):
        circuits.count(provider, account, healthy=False)
    circuits.refresh()


def trial(circuits: Circuits, provider: str) -> bool:
    return circuits.look(provider, "a").trial


def wait_for_trial(circuits: Circuits, provider: str) -> float:
    """Seconds until this worker may try."""
    begun = time.monotonic()
    until(lambda: True if trial(circuits, provider) else None, LONGEST + 5, 0.01)
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("good", "bad", "opens"),
    [
        (0, VOLUME, True),
        (0, VOLUME - 1, False),
        (VOLUME // 2, VOLUME // 2, True),
        (VOLUME, VOLUME - 1, False),
        (5 * VOLUME, VOLUME - 1, False),
        (VOLUME, 0, False),
    ],
)
def test_it_opens_where_most_of_enough_calls_fail(
    one: Circuits, provider: str, good: int, bad: int, opens: bool
) -> None:
    calls(one, provider, good, bad)
    assert (one.look(provider, "a").left is not None) is opens


def test_calls_that_fail_now_and_then_open_nothing(one: Circuits, provider: str) -> None:
    for _ in range(3 * VOLUME):
        calls(one, provider, 2, 1)
    assert one.look(provider, "a").left is None


def test_a_row_of_bad_calls_opens_it_whatever_there_was_before(one: Circuits, provider: str) -> None:
    calls(one, provider, 1000, 0)
    calls(one, provider, 0, VOLUME - 1)
    calls(one, provider, 1, 0)
    calls(one, provider, 0, VOLUME - 1)
    assert one.look(provider, "a").left is None
    calls(one, provider, 0, 1)
    assert one.look(provider, "a").left is not None


def test_the_calls_of_all_workers_count(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME // 2)
    assert one.look(provider, "a").left is None
    calls(other, provider, 0, VOLUME // 2)
    assert other.look(provider, "a").left is not None
    one.refresh()
    assert one.look(provider, "a").left is not None


def test_who_is_kept_waiting_by_the_trial_of_another_does_not_ask_again_and_again(
    one: Circuits, other: Circuits, provider: str
) -> None:
    calls(one, provider, 0, VOLUME)
    wait_for_trial(one, provider)
    other.refresh()
    assert not trial(other, provider)
    left = other.left(provider, "a")
    assert left is not None
    assert left > module.TRYING / 2


def test_one_account_says_nothing_of_another(one: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    assert one.look(provider, "b").left is None


def test_what_is_long_ago_does_not_count(
    one: Circuits, redis: Any, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 0.2)
    quick = Circuits(redis, PATIENCE)
    calls(quick, provider, 0, VOLUME - 1)
    time.sleep(0.5)
    calls(quick, provider, 0, VOLUME - 1)
    assert quick.look(provider, "a").left is None


def test_one_worker_of_the_fleet_tries_it_once(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    other.refresh()
    left = one.look(provider, "a").left
    assert left is not None
    assert 0 < left <= FIRST
    assert not trial(one, provider)
    wait_for_trial(one, provider)
    assert [trial(each, provider) for each in (one, other, one, other)] == [False] * 4


def test_a_trial_that_ends_well_closes_it_for_all(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    other.refresh()
    wait_for_trial(one, provider)
    assert one.tried(provider, "a", healthy=True).left is None
    assert one.look(provider, "a").left is None
    assert one.closed_for(provider, "a") is not None
    other.refresh()
    assert other.look(provider, "a").left is None
    assert other.closed_for(provider, "a") is not None


def test_a_trial_that_ends_badly_leaves_it_open_for_longer(one: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    for times in range(1, 7):
        wait = FIRST * 2**times
        state = one.tried(provider, "a", healthy=False)
        assert state.left == pytest.approx(min(wait, LONGEST), abs=0.1)


def test_one_that_opens_again_at_once_stays_open_for_longer(one: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    one.tried(provider, "a", healthy=True)
    calls(one, provider, 0, VOLUME)
    left = one.look(provider, "a").left
    assert left is not None
    assert FIRST < left <= 2 * FIRST


def test_where_the_worker_that_tries_dies_another_does(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    other.refresh()
    wait_for_trial(one, provider)
    assert PATIENCE * 0.7 < wait_for_trial(other, provider) < PATIENCE * 4


def test_late_answers_to_calls_from_before_decide_nothing(one: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    calls(one, provider, 100, 0)
    assert one.look(provider, "a").left is not None


def test_where_redis_cannot_answer_lookups_go_on(provider: str) -> None:
    with RedisServer() as server, redis_py.Redis.from_url(server.url) as client:
        alone = Circuits(client, PATIENCE)
        calls(alone, provider, 0, 1)
        server.kill()
        for _ in range(3 * VOLUME):
            alone.count(provider, "a", healthy=False)
        assert alone.look(provider, "a").left is None


def test_somebody_holds_a_whole_provider_open_and_lets_go(one: Circuits, redis: Any, provider: str) -> None:
    hold_open(redis, provider, "*", seconds=3600, reason="maintenance")
    one.refresh()
    assert one.look(provider, "a").left == pytest.approx(3600, abs=2)
    assert one.look(provider, "b").left is not None
    (state,) = [each for each in circuits(redis) if each.provider == provider]
    assert (state.account, state.state, state.reason) == ("*", "held", "maintenance")
    assert close(redis, provider, "*")
    one.refresh()
    assert one.look(provider, "a").left is None
    assert not close(redis, provider, "*")


def test_what_somebody_holds_open_ends_by_itself_and_is_not_tried(one: Circuits, redis: Any, provider: str) -> None:
    hold_open(redis, provider, "a", seconds=0.3, reason="a moment")
    one.refresh()
    seen = [one.look(provider, "a")]
    while seen[-1].left is not None and len(seen) < 500:
        time.sleep(0.01)
        seen.append(one.look(provider, "a"))
    assert not any(each.trial for each in seen)
    assert seen[-1].left is None


def test_closing_ends_what_opened_by_itself(one: Circuits, redis: Any, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    assert [each.state for each in circuits(redis) if each.provider == provider] == ["open"]
    assert close(redis, provider, "*")
    one.refresh()
    assert one.look(provider, "a").left is None
