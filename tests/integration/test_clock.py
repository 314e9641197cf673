"""Redis' clock as a worker knows it, with a real server, on a host with any clock."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from sandbox.redis_server import RedisServer
from tasks.stores.clock import RedisClock, uptime


class Clocks(Redis):
    """A server whose clock can be set, and an own clock and round trips that are what a test says."""

    ahead = 0.0
    wall_ahead = 0.0
    passed = 0.0
    round_trip = 0.0

    def time(self, **_: Any) -> Any:
        seconds, micros = super().time()
        self.passed += self.round_trip
        return seconds + self.ahead, micros

    def uptime(self) -> float:
        return uptime() + self.passed

    def wall(self) -> float:
        return datetime.now(UTC).timestamp() + self.wall_ahead


@pytest.fixture
def clocks(redis_server: RedisServer) -> Iterator[Clocks]:
    with Clocks.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def clock(clocks: Clocks) -> RedisClock:
    return RedisClock(clocks, uptime=clocks.uptime, wall=clocks.wall)


def off(clock: RedisClock, ahead: float = 0.0) -> float:
    """Seconds between the clock and this host's right one."""
    return abs((clock.now() - datetime.now(UTC)).total_seconds() - ahead)


@pytest.mark.parametrize("wrong", [45.0, -45.0, 3600.0, 0.0])
def test_the_clock_shows_redis_time_on_a_host_with_a_wrong_clock(
    clocks: Clocks, clock: RedisClock, wrong: float
) -> None:
    clocks.wall_ahead = wrong
    clock.measure()
    assert off(clock) < 0.5
    assert clock.offset is not None
    assert abs(clock.offset - wrong) < 0.5


def test_a_jump_of_this_hosts_clock_between_two_measurements_is_nothing(clocks: Clocks, clock: RedisClock) -> None:
    clock.measure()
    clocks.wall_ahead = 3600.0
    assert off(clock) < 0.5


@pytest.mark.parametrize("jump", [-40.0, -3600.0, 3600.0])
def test_the_clock_follows_redis_when_its_clock_is_set(
    clocks: Clocks, clock: RedisClock, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock.measure()
    clocks.ahead = jump
    clock.measure()
    assert off(clock, jump) < 0.5
    assert f"Redis' clock was set {'back' if jump < 0 else 'forward'} by {abs(jump):.1f} s" in caplog.text


def test_a_slow_round_trip_does_not_spoil_what_a_quick_one_told(clocks: Clocks, clock: RedisClock) -> None:
    clock.measure()
    known = off(clock)
    clocks.round_trip = 8.0
    clock.measure()
    clocks.passed = 0.0
    assert abs(off(clock) - known) < 0.1


def test_a_wrong_clock_is_told_once_and_its_end_too(
    clocks: Clocks, clock: RedisClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clocks.wall_ahead = 45.0
    for _ in range(3):
        clock.measure()
    clocks.wall_ahead = 0.0
    for _ in range(3):
        clock.measure()
    assert [record.getMessage() for record in caplog.records] == [
        "this host's clock is 45.0 s ahead of Redis': deadlines are judged by Redis' clock; set this one, by NTP",
        "this host's clock is right again, by Redis'",
    ]
