"""Circuits in memory, which unit tests use, keep to what those in Redis do."""

import uuid
from collections.abc import Callable, Iterator

import pytest
import redis as redis_py

from cardtoken.contract import Category
from sandbox.redis_server import RedisServer
from sandbox.waiting import until
from tasks.calls.admission import Circuit, CircuitBreakers
from tasks.stores.circuits import FIRST, LONGEST, VOLUME, Circuits
from tasks.testing.admission import MemoryCircuits
from tasks.testing.clock import FakeClock


class Both:
    """One kind of circuits, and how to wait until a trial is due."""

    def __init__(self, circuits: CircuitBreakers, wait: Callable[[float], None], refresh: Callable[[], None]) -> None:
        self.circuits = circuits
        self.provider = uuid.uuid4().hex
        self._wait = wait
        self._refresh = refresh

    def fail(self, count: int) -> Circuit:
        for _ in range(count):
            self.circuits.record(self.provider, "a", healthy=False)
        self._refresh()
        return self.acquire()

    def acquire(self) -> Circuit:
        return self.circuits.acquire(self.provider, "a")

    def report(self, healthy: bool | None) -> float | None:
        return self.circuits.report_trial(self.provider, "a", healthy=healthy).seconds_until_trial

    def ask(self, seconds: float, *, trial: bool = False) -> float | None:
        circuit = self.circuits.leave_alone(self.provider, "a", Category.RATE_LIMITED, seconds, trial=trial)
        assert circuit.asked is Category.RATE_LIMITED
        return circuit.seconds_until_trial

    def wait_for_trial(self) -> None:
        self._wait(self.circuits.known(self.provider, "a").seconds_until_trial or 0)
        until(lambda: True if self.acquire().trial else None)


@pytest.fixture(params=["memory", "redis"])
def both(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Both]:
    if request.param == "memory":
        clock = FakeClock()
        yield Both(MemoryCircuits(clock.monotonic), clock.advance, lambda: None)
        return
    with redis_py.Redis.from_url(redis_server.url) as client:
        circuits = Circuits(client, 30)
        yield Both(circuits, lambda _: None, circuits.refresh)


def test_a_row_of_failures_opens_it(both: Both) -> None:
    assert both.fail(VOLUME - 1) == Circuit()
    both.circuits.record(both.provider, "a", healthy=True)
    assert both.fail(VOLUME - 1).trial is False
    assert both.fail(1).seconds_until_trial == pytest.approx(FIRST, abs=0.2)
    assert both.circuits.acquire(both.provider, "b") == Circuit()


def test_one_trial_is_given_and_closes_it(both: Both) -> None:
    assert both.circuits.closed_for(both.provider, "a") is None
    both.fail(VOLUME)
    both.wait_for_trial()
    assert both.acquire().trial is False
    assert both.report(healthy=True) is None
    assert both.acquire() == Circuit()
    assert both.circuits.closed_for(both.provider, "a") == pytest.approx(0, abs=0.2)


def test_a_failed_trial_leaves_it_open_for_longer_and_one_that_shows_nothing_for_a_moment(both: Both) -> None:
    both.fail(VOLUME)
    for times in range(1, 6):
        assert both.report(healthy=False) == pytest.approx(min(FIRST * 2**times, LONGEST), abs=0.2)
    assert both.report(healthy=None) == pytest.approx(FIRST, abs=0.2)


def test_the_longest_request_to_be_left_alone_counts(both: Both) -> None:
    for seconds, left in ((5, 5), (3, 5), (0, 5), (8, 8)):
        assert both.ask(seconds) == pytest.approx(left, abs=0.3)
    assert both.ask(0, trial=True) == pytest.approx(2 * FIRST, abs=0.2)
    assert both.report(healthy=False) is None, "a limiter that says no more is over"
