"""How many messages of a queue a worker takes: none, one, then more."""

import time

import pytest

from tasks.broker import queue_limits
from tasks.broker.queue_limits import QueueLimits

QUEUE = "lookup.opay.bulk"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_limits, "_STEP", 0.02)


def test_a_queue_without_a_limit_has_no_allowance() -> None:
    assert QueueLimits().allowance(QUEUE) is None


def test_nothing_is_taken_while_nobody_can_be_asked_then_one_then_more() -> None:
    left: float | None = 5.0
    limits = QueueLimits(lambda _: left)
    assert limits.allowance(QUEUE) == 0
    left = 0.0
    assert limits.allowance(QUEUE) == 1
    left = None
    seen = [limits.allowance(QUEUE)]
    end = time.monotonic() + 5
    while seen[-1] is not None and time.monotonic() < end:
        time.sleep(0.005)
        seen.append(limits.allowance(QUEUE))
    numbers = [each for each in seen if each is not None]
    assert numbers[0] == 1
    assert numbers == sorted(numbers)
    assert all(number & (number - 1) == 0 for number in numbers)
    assert seen[-1] is None


def test_back_offs_in_a_row_halve_the_allowance_once() -> None:
    limits = QueueLimits()
    for _ in range(10):
        limits.back_off(QUEUE, 0.05, 32)
    assert limits.allowance(QUEUE) == 0
    time.sleep(0.06)
    assert limits.allowance(QUEUE) in {16, 32}
    assert limits.allowance("lookup.opay.interactive") is None
