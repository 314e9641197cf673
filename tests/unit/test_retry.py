"""When a provider is asked again, and when a list of lookups comes back."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardtoken.contract import Category
from tasks.calls.retry import WAVE, GiveUp, RetryAt, RetryPolicy, next_delivery_time
from tasks.lookups.outcomes import Failure

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
FAR = NOW + timedelta(days=365)
LOWEST: Callable[[float, float], float] = min
HIGHEST: Callable[[float, float], float] = max


def policy(
    base: float = 0.5, longest: float = 60, attempts: int = 5, draw: Callable[[float, float], float] = HIGHEST
) -> RetryPolicy:
    return RetryPolicy(base, longest, attempts, draw)


def failure(category: Category = Category.UNAVAILABLE, retry_after: float | None = None) -> Failure:
    return Failure(category, "words", retry_after=retry_after)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# --- the wait


@pytest.mark.parametrize(
    ("attempts", "bound"),
    [
        (1, 0.5),  # the base
        (2, 1.0),
        (3, 2.0),
        (4, 4.0),
        (7, 32.0),
        (8, 60.0),  # 64, but for the cap
        (9, 60.0),
        (64, 60.0),
        (10_000, 60.0),  # an exponent that no float could hold
    ],
)
def test_the_bound_doubles_with_every_attempt_up_to_the_cap(attempts: int, bound: float) -> None:
    assert policy().delay(attempts) == bound


@pytest.mark.parametrize("attempts", [1, 2, 8, 10_000])
def test_a_retry_waits_at_least_a_moment(attempts: int) -> None:
    assert policy(draw=LOWEST).delay(attempts) == pytest.approx(0.05)


def test_the_draw_is_even_from_nothing_to_the_bound() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return (low + high) / 2

    assert policy(draw=draw).delay(3) == 1.0
    assert drawn == [(0.0, 2.0)]


@given(st.integers(1, 200), st.floats(0.001, 100), st.floats(0, 1000), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_wait_is_never_shorter_than_the_floor_nor_longer_than_the_cap(
    attempts: int, base: float, more: float, seed: int
) -> None:
    drawing = RetryPolicy(base, base + more, 5, random.Random(seed).uniform)  # noqa: S311 - a wait is no secret
    wait = drawing.delay(attempts)
    assert base / 10 <= wait <= base + more
    assert wait <= max(base * 2.0 ** min(attempts - 1, 64), base / 10) * (1 + 1e-9)


def test_two_policies_do_not_come_back_at_the_same_time() -> None:
    own = RetryPolicy(0.5, 60, 5)
    assert len({own.delay(8) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        (0.0, 0.05, 0.5),  # asked for nothing: the draw alone
        (7.0, 7.05, 7.5),
        (3600.0, 3600.05, 3600.5),  # beyond the maximum, which is the service's own and not the provider's
    ],
)
def test_the_draw_comes_on_top_of_what_the_provider_asked_for(retry_after: float, least: float, most: float) -> None:
    assert policy(draw=LOWEST).delay(1, retry_after) == pytest.approx(least)
    assert policy(draw=HIGHEST).delay(1, retry_after) == pytest.approx(most)


# --- the decision


@pytest.mark.parametrize("category", [Category.TIMEOUT, Category.UNAVAILABLE, Category.RATE_LIMITED])
def test_a_failure_that_may_pass_by_itself_is_retried(category: Category) -> None:
    assert policy().decide(failure(category), 1, NOW, FAR) == RetryAt(after(0.5))


@pytest.mark.parametrize(
    "category",
    sorted(set(Category) - {Category.TIMEOUT, Category.UNAVAILABLE, Category.RATE_LIMITED}),
)
def test_a_failure_that_does_not_pass_by_itself_ends_the_lookup(category: Category) -> None:
    assert policy().decide(failure(category, retry_after=1.0), 1, NOW, FAR) == GiveUp()


@pytest.mark.parametrize(
    ("made", "allowed", "again"),
    [
        (1, 5, True),
        (4, 5, True),
        (5, 5, False),  # the first call counts
        (6, 5, False),  # a call more, after a crash
        (1, 1, False),  # one call is no retry
    ],
)
def test_no_more_calls_are_made_than_allowed(made: int, allowed: int, again: bool) -> None:
    decision = policy(attempts=allowed).decide(failure(), made, NOW, FAR)
    assert isinstance(decision, RetryAt) is again


@pytest.mark.parametrize("outage", [25, 300, 3000])
def test_without_a_limit_an_outage_is_outlasted_and_its_end_met_within_the_longest_delay(outage: float) -> None:
    patient = RetryPolicy(0.5, 60, 154, HIGHEST)
    now, attempts = NOW, 1
    while now < after(outage):
        decision = patient.decide(failure(), attempts, now, after(3600))
        assert isinstance(decision, RetryAt), f"given up after {now - NOW}, at attempt {attempts}"
        now, attempts = decision.not_before, attempts + 1
    assert now <= after(outage + 60)


def test_without_a_limit_a_lookup_is_tried_again_until_its_deadline() -> None:
    patient = RetryPolicy(0.5, 60, 154, HIGHEST)
    now, attempts = NOW, 1
    while isinstance(decision := patient.decide(failure(), attempts, now, after(3600)), RetryAt):
        now, attempts = decision.not_before, attempts + 1
    assert after(3600 - 60) <= now < after(3600)
    assert attempts < 100


def test_the_calls_of_a_bulk_lookup_last_until_its_deadline_with_any_jitter() -> None:
    for seed in range(200):
        patient = RetryPolicy(0.5, 60, 154, random.Random(seed).uniform)  # noqa: S311 - a wait is no secret
        now, attempts = NOW, 1
        while isinstance(decision := patient.decide(failure(), attempts, now, after(3600)), RetryAt):
            now, attempts = decision.not_before, attempts + 1
        assert now > after(3600 - 60), f"seed {seed}: the calls were used up at {now}"


@pytest.mark.parametrize(("unreadable", "again"), [(1, True), (2, True), (3, False), (4, False)])
def test_an_answer_that_cannot_be_read_is_waited_out_a_few_times(unreadable: int, again: bool) -> None:
    broken = Failure(Category.PROTOCOL, "no JSON", may_pass=True)
    # The calls that brought another failure do not count, however many they are.
    decision = RetryPolicy(0.5, 60, 154).decide(broken, 50, NOW, FAR, unreadable)
    assert isinstance(decision, RetryAt) is again


def test_answers_that_cannot_be_read_take_no_more_calls_than_any_others() -> None:
    broken = Failure(Category.PROTOCOL, "no JSON", may_pass=True)
    assert policy(attempts=2).decide(broken, 2, NOW, FAR, 2) == GiveUp()


@pytest.mark.parametrize(
    ("deadline", "again"),
    [
        (0.6, True),
        (0.5, False),  # a call at the deadline is one too late
        (0.4, False),
        (0.0, False),
        (-1.0, False),
    ],
)
def test_a_try_that_would_come_after_the_deadline_is_not_waited_for(deadline: float, again: bool) -> None:
    assert isinstance(policy().decide(failure(), 1, NOW, after(deadline)), RetryAt) is again


def test_a_provider_that_asks_for_more_than_the_lookup_has_ends_it() -> None:
    assert policy().decide(failure(retry_after=30.0), 1, NOW, after(30)) == GiveUp()
    assert policy().decide(failure(retry_after=30.0), 1, NOW, after(31)) == RetryAt(after(30.5))


@pytest.mark.parametrize("seconds", [1e9, 1e12, 1e300, float("inf")])
def test_a_wait_beyond_the_calendar_ends_the_lookup(seconds: float) -> None:
    assert policy().decide(failure(retry_after=seconds), 1, NOW, FAR) == GiveUp()


# --- the wave


@pytest.mark.parametrize(
    ("due", "at"),
    [
        # one lookup: when it is due
        ([(5.0, 60.0)], 5.0),
        # due already: now
        ([(-5.0, 60.0)], 0.0),
        # due within a second of the first: they go together, with the last of them
        ([(5.0, 60.0), (5.4, 60.0), (6.0, 60.0)], 6.0),
        # due later than that: not waited for
        ([(5.0, 60.0), (6.1, 60.0)], 5.0),
        # the second counts from the first, so that a chain of neighbours does not go on for ever
        ([(5.0, 60.0), (5.9, 60.0), (6.8, 60.0)], 5.9),
        # the first one's deadline is not waited past
        ([(5.0, 5.5), (5.6, 60.0)], 5.0),
        ([(5.0, 5.5), (5.4, 60.0), (5.6, 60.0)], 5.4),
        # nor that of one that has joined
        ([(5.0, 60.0), (5.2, 5.5), (5.6, 60.0)], 5.2),
        # their order says nothing
        ([(6.0, 60.0), (5.0, 60.0), (5.4, 60.0)], 6.0),
        # past its deadline already: it is due now, and the others are not brought forward
        ([(5.0, -1.0), (9.0, 60.0)], 5.0),
    ],
)
def test_a_list_comes_back_for_its_first_lookup_with_those_that_are_due_soon(
    due: list[tuple[float, float]], at: float
) -> None:
    assert next_delivery_time(NOW, [(after(first), after(last)) for first, last in due]) == after(at)


MOMENT = st.floats(-5, 20, allow_nan=False).map(lambda seconds: round(seconds, 3))


@given(st.lists(st.tuples(MOMENT, st.floats(0.001, 30)), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_wave_is_never_early_never_late_and_outlasts_no_deadline(due: list[tuple[float, float]]) -> None:
    pairs = [(after(first), after(first + life)) for first, life in due]
    at = next_delivery_time(NOW, iter(pairs))
    first = max(NOW, min(not_before for not_before, _ in pairs))
    assert first <= at <= first + timedelta(seconds=WAVE)
    assert at == first or all(deadline > at for not_before, deadline in pairs if not_before <= at)


@given(st.lists(st.tuples(MOMENT, st.floats(5, 30)), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_list_that_comes_back_again_and_again_comes_to_its_end(due: list[tuple[float, float]]) -> None:
    left = [(after(first), after(first + life)) for first, life in due]
    moments = [NOW]
    while left:
        moments.append(next_delivery_time(moments[-1], left))
        left = [pair for pair in left if pair[0] > moments[-1]]
    assert all(one <= other for one, other in pairwise(moments))
    assert len(moments) <= len(due) + 1
