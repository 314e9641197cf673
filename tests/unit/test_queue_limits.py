"""How many messages of a queue a worker takes: none, one, then more."""

import pytest

from tasks.broker.queue_limits import QueueLimits
from tasks.testing.clock import FakeClock

QUEUE = "lookup.opay.bulk"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_queue_without_a_limit_has_no_allowance() -> None:
    assert QueueLimits().allowance(QUEUE) is None


def test_nothing_is_taken_while_the_provider_is_down_then_one_message_then_more(clock: FakeClock) -> None:
    left: float | None = 5.0
    limits = QueueLimits(lambda _: left, monotonic=clock.monotonic)
    assert limits.allowance(QUEUE) == 0
    left = 0.0
    assert limits.allowance(QUEUE) == 1
    left = None
    seen = []
    for _ in range(12):
        seen.append(limits.allowance(QUEUE))
        clock.advance(0.5)
    assert seen == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, None]


def test_a_queue_that_was_not_looked_at_for_long_has_no_limit_any_more(clock: FakeClock) -> None:
    limits = QueueLimits(monotonic=clock.monotonic)
    limits.back_off(QUEUE, 1, 2)
    clock.advance(60)
    assert limits.allowance(QUEUE) is None


def test_back_offs_in_a_row_halve_the_allowance_once(clock: FakeClock) -> None:
    limits = QueueLimits(monotonic=clock.monotonic)
    for _ in range(10):
        limits.back_off(QUEUE, 0.05, 32)
    assert limits.allowance(QUEUE) == 0
    clock.advance(0.06)
    assert limits.allowance(QUEUE) == 16
    assert limits.allowance("lookup.opay.interactive") is None


@pytest.mark.parametrize(("seconds", "none_for"), [(0.2, 0.2), (60, 1.0)])
def test_a_back_off_takes_nothing_for_a_second_at_most(clock: FakeClock, seconds: float, none_for: float) -> None:
    limits = QueueLimits(monotonic=clock.monotonic)
    limits.back_off(QUEUE, seconds, 1)
    clock.advance(none_for - 0.01)
    assert limits.allowance(QUEUE) == 0
    clock.advance(0.02)
    assert limits.allowance(QUEUE) == 1
