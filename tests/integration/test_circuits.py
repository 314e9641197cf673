"""Circuits against a real Redis: when one opens, who tries it, and what closes it."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

from cardtoken.circuits import OPEN, circuits, close, hold_open
from cardtoken.contract import Category
from sandbox.redis_server import RedisServer
from sandbox.waiting import until
from tasks.calls.admission import Circuit
from tasks.stores import circuits as module
from tasks.stores.circuits import FIRST, LONGEST, LONGEST_ASKED, VOLUME, Circuits

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
        circuits.record(provider, account, healthy=True)
    for _ in range(bad):
        circuits.record(provider, account, healthy=False)
    circuits.refresh()


def trial(circuits: Circuits, provider: str) -> bool:
    return circuits.acquire(provider, "a").trial


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
def test_a_circuit_opens_when_most_of_enough_calls_fail(
    one: Circuits, provider: str, good: int, bad: int, opens: bool
) -> None:
    calls(one, provider, good, bad)
    assert (one.acquire(provider, "a").seconds_until_trial is not None) is opens


def test_calls_that_fail_now_and_then_open_nothing(one: Circuits, provider: str) -> None:
    for _ in range(3 * VOLUME):
        calls(one, provider, 2, 1)
    assert one.acquire(provider, "a").seconds_until_trial is None


def test_a_row_of_bad_calls_opens_a_circuit_after_any_past(one: Circuits, provider: str) -> None:
    calls(one, provider, 1000, 0)
    calls(one, provider, 0, VOLUME - 1)
    calls(one, provider, 1, 0)
    calls(one, provider, 0, VOLUME - 1)
    assert one.acquire(provider, "a").seconds_until_trial is None
    calls(one, provider, 0, 1)
    assert one.acquire(provider, "a").seconds_until_trial is not None


def test_the_calls_of_all_workers_count(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME // 2)
    assert one.acquire(provider, "a").seconds_until_trial is None
    calls(other, provider, 0, VOLUME // 2)
    assert other.acquire(provider, "a").seconds_until_trial is not None
    one.refresh()
    assert one.acquire(provider, "a").seconds_until_trial is not None


def test_a_worker_kept_waiting_by_the_trial_of_another_does_not_ask_again_and_again(
    one: Circuits, other: Circuits, provider: str
) -> None:
    calls(one, provider, 0, VOLUME)
    wait_for_trial(one, provider)
    other.refresh()
    assert not trial(other, provider)
    left = other.known(provider, "a").seconds_until_trial
    assert left is not None
    assert left > module.TRYING / 2


def test_one_account_says_nothing_of_another(one: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    assert one.acquire(provider, "b").seconds_until_trial is None


def test_old_failures_do_not_count(one: Circuits, redis: Any, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 0.2)
    quick = Circuits(redis, PATIENCE)
    calls(quick, provider, 0, VOLUME - 1)
    time.sleep(0.5)
    calls(quick, provider, 0, VOLUME - 1)
    assert quick.acquire(provider, "a").seconds_until_trial is None


def test_one_worker_of_the_fleet_tries_it_once(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    other.refresh()
    left = one.acquire(provider, "a").seconds_until_trial
    assert left is not None
    assert 0 < left <= FIRST
    assert not trial(one, provider)
    wait_for_trial(one, provider)
    assert [trial(each, provider) for each in (one, other, one, other)] == [False] * 4


def test_a_trial_that_ends_well_closes_it_for_all(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    other.refresh()
    wait_for_trial(one, provider)
    assert one.report_trial(provider, "a", healthy=True).seconds_until_trial is None
    assert one.acquire(provider, "a").seconds_until_trial is None
    assert one.closed_for(provider, "a") is not None
    other.refresh()
    assert other.acquire(provider, "a").seconds_until_trial is None
    assert other.closed_for(provider, "a") is not None


def test_a_trial_that_ends_badly_leaves_it_open_for_longer(one: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    for times in range(1, 7):
        wait = FIRST * 2**times
        state = one.report_trial(provider, "a", healthy=False)
        assert state.seconds_until_trial == pytest.approx(min(wait, LONGEST), abs=0.1)


def test_one_that_opens_again_at_once_stays_open_for_longer(one: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    one.report_trial(provider, "a", healthy=True)
    calls(one, provider, 0, VOLUME)
    left = one.acquire(provider, "a").seconds_until_trial
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
    assert one.acquire(provider, "a").seconds_until_trial is not None


def test_where_redis_cannot_answer_lookups_go_on(provider: str) -> None:
    with RedisServer() as server, redis_py.Redis.from_url(server.url) as client:
        alone = Circuits(client, PATIENCE)
        calls(alone, provider, 0, 1)
        server.kill()
        for _ in range(3 * VOLUME):
            alone.record(provider, "a", healthy=False)
        assert alone.acquire(provider, "a").seconds_until_trial is None


def test_an_operator_holds_a_whole_provider_open_and_releases_it(one: Circuits, redis: Any, provider: str) -> None:
    hold_open(redis, provider, "*", seconds=3600, reason="maintenance")
    one.refresh()
    assert one.acquire(provider, "a").seconds_until_trial == pytest.approx(3600, abs=2)
    assert one.acquire(provider, "b").seconds_until_trial is not None
    (state,) = [each for each in circuits(redis) if each.provider == provider]
    assert (state.account, state.state, state.reason) == ("*", "held", "maintenance")
    assert close(redis, provider, "*")
    one.refresh()
    assert one.acquire(provider, "a").seconds_until_trial is None
    assert not close(redis, provider, "*")


def test_a_hold_ends_by_itself_and_has_no_trial(one: Circuits, redis: Any, provider: str) -> None:
    hold_open(redis, provider, "a", seconds=0.3, reason="a moment")
    one.refresh()
    seen = [one.acquire(provider, "a")]
    while seen[-1].seconds_until_trial is not None and len(seen) < 500:
        time.sleep(0.01)
        seen.append(one.acquire(provider, "a"))
    assert not any(each.trial for each in seen)
    assert seen[-1].seconds_until_trial is None


def test_closing_ends_what_opened_by_itself(one: Circuits, redis: Any, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    assert [each.state for each in circuits(redis) if each.provider == provider] == ["open"]
    assert close(redis, provider, "*")
    one.refresh()
    assert one.acquire(provider, "a").seconds_until_trial is None


# --- left alone because the provider asks for it


def of(redis: Any, provider: str) -> list[tuple[str, str | None]]:
    return [(each.state, each.reason) for each in circuits(redis) if each.provider == provider]


def ask(circuits: Circuits, provider: str, seconds: float, *, trial: bool = False) -> float:
    """Seconds for which the account is left alone, once its provider has asked for that."""
    circuit = circuits.leave_alone(provider, "a", Category.RATE_LIMITED, seconds, trial=trial)
    assert circuit.asked is Category.RATE_LIMITED
    assert circuit.seconds_until_trial is not None
    return circuit.seconds_until_trial


def test_one_answer_has_the_account_left_alone_by_the_fleet_for_as_long_as_it_says(
    one: Circuits, other: Circuits, redis: Any, provider: str
) -> None:
    assert ask(one, provider, 30) == pytest.approx(30, abs=0.1)
    other.refresh()
    for each in (one, other):
        circuit = each.acquire(provider, "a")
        assert (circuit.asked, circuit.trial) == (Category.RATE_LIMITED, False)
        assert circuit.seconds_until_trial == pytest.approx(30, abs=1)
        assert each.acquire(provider, "b").seconds_until_trial is None
    assert of(redis, provider) == [("paused", "the provider asked to be left alone (rate_limited)")]


def test_afterwards_one_lookup_of_the_fleet_goes_first(one: Circuits, other: Circuits, provider: str) -> None:
    ask(one, provider, 0.3)
    other.refresh()
    assert wait_for_trial(one, provider) > 0.2
    assert [trial(each, provider) for each in (one, other, one, other)] == [False] * 4
    assert one.acquire(provider, "a").asked is Category.RATE_LIMITED, "who waits for the trial knows why"
    one.report_trial(provider, "a", healthy=True)
    other.refresh()
    assert other.acquire(provider, "a") == Circuit()
    assert other.closed_for(provider, "a") is not None


def test_of_a_burst_that_is_answered_so_the_longest_wish_counts(one: Circuits, provider: str) -> None:
    for seconds, left in ((5, 5), (3, 5), (0, 5), (8, 8)):
        assert ask(one, provider, seconds) == pytest.approx(left, abs=0.5)


def test_a_wish_without_a_time_is_kept_for_longer_each_time(one: Circuits, provider: str) -> None:
    assert ask(one, provider, 0) == pytest.approx(FIRST, abs=0.1)
    assert ask(one, provider, 0, trial=True) == pytest.approx(2 * FIRST, abs=0.1)
    assert ask(one, provider, 0, trial=True) == pytest.approx(4 * FIRST, abs=0.1)
    one.report_trial(provider, "a", healthy=True)
    assert ask(one, provider, 0) == pytest.approx(FIRST, abs=0.1)


@pytest.mark.parametrize("seconds", [86_400, 1e9, float("inf")])
def test_no_answer_silences_an_account_for_good(one: Circuits, provider: str, seconds: float) -> None:
    assert ask(one, provider, seconds) == pytest.approx(LONGEST_ASKED, abs=0.1)


def test_a_person_can_end_it(one: Circuits, redis: Any, provider: str) -> None:
    ask(one, provider, 60)
    assert close(redis, provider, "a")
    one.refresh()
    assert one.acquire(provider, "a") == Circuit()
    assert not redis.hexists("lookup:circuits:asked", f"{provider}:a")


def test_a_limiter_that_says_no_more_is_over_with_any_end_of_the_lookup_that_goes_first(
    one: Circuits, provider: str
) -> None:
    ask(one, provider, 0.05)
    wait_for_trial(one, provider)
    assert one.report_trial(provider, "a", healthy=False) == Circuit()


def test_a_provider_that_is_still_down_after_its_pause_is_no_longer_paused(
    one: Circuits, redis: Any, provider: str
) -> None:
    one.leave_alone(provider, "a", Category.UNAVAILABLE, 0.05, trial=False)
    wait_for_trial(one, provider)
    assert one.report_trial(provider, "a", healthy=False).asked is None
    assert of(redis, provider) == [("open", None)]


def test_a_worker_that_redis_does_not_answer_keeps_to_it_by_itself(provider: str) -> None:
    with RedisServer() as server, redis_py.Redis.from_url(server.url) as client:
        alone = Circuits(client, PATIENCE)
        server.kill()
        assert ask(alone, provider, 5) == pytest.approx(5, abs=0.1)
        assert alone.acquire(provider, "a").seconds_until_trial is not None


def test_an_outcome_recorded_during_a_refresh_is_not_overwritten(one: Circuits, provider: str) -> None:
    begun = time.monotonic()
    ask(one, provider, 5)
    one._note(f"{provider}:a", None, begun)  # what Redis said before that
    assert one.acquire(provider, "a").seconds_until_trial is not None


# --- trials that show nothing


def test_a_trial_that_shows_nothing_is_made_again_soon(one: Circuits, other: Circuits, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    for _ in range(2):
        one.report_trial(provider, "a", healthy=False)
    wait_for_trial(one, provider)
    assert one.report_trial(provider, "a", healthy=None).seconds_until_trial == pytest.approx(FIRST, abs=0.1)
    other.refresh()
    assert wait_for_trial(other, provider) < FIRST + 1


# --- the clock of Redis goes back: what is stored is further ahead than it can be

BACK = 40_000


def test_an_open_circuit_is_tried_at_once_when_the_clock_has_gone_back(
    one: Circuits, other: Circuits, redis: Any, provider: str
) -> None:
    calls(one, provider, 0, VOLUME)
    redis.zincrby(OPEN, BACK, f"{provider}:a")
    one.refresh()
    other.refresh()
    assert trial(one, provider)
    assert not trial(other, provider)


def test_a_wish_is_over_when_the_clock_has_gone_back(one: Circuits, redis: Any, provider: str) -> None:
    ask(one, provider, 5)
    redis.zincrby(OPEN, BACK, f"{provider}:a")
    one.refresh()
    assert trial(one, provider)


def test_a_trial_under_way_is_over_when_the_clock_has_gone_back(one: Circuits, redis: Any, provider: str) -> None:
    calls(one, provider, 0, VOLUME)
    wait_for_trial(one, provider)
    redis.hincrbyfloat(f"lookup:circuit:{provider}:a", "trying", BACK)
    assert trial(one, provider)


def test_a_hold_stays_however_far_ahead_it_ends(one: Circuits, redis: Any, provider: str) -> None:
    hold_open(redis, provider, "a", seconds=86_400 * 30, reason="until further notice")
    one.refresh()
    assert not trial(one, provider)
    assert one.acquire(provider, "a").seconds_until_trial == pytest.approx(86_400 * 30, abs=5)
