"""A thread repeats its work until it is stopped."""

import re
import threading
import time

import pytest
from redis import ConnectionError as RedisConnectionError

from sandbox.waiting import until
from tasks.periodic import Periodic


def test_a_failure_of_any_kind_is_logged_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[Exception] = [RedisConnectionError("away"), ValueError("OPAY_TOKEN_secret"), OSError("away")]
    left = list(failures)
    done = threading.Event()

    def work() -> None:
        if left:
            raise left.pop(0)
        done.set()

    periodic = Periodic("chores", work, 0.01)
    periodic.start()
    assert done.wait(5)
    periodic.stop()
    periodic.join(time.monotonic() + 15)
    assert [record.getMessage() for record in caplog.records] == [
        "chores: Redis cannot be asked (ConnectionError); retrying"
    ]


def test_an_error_of_our_own_is_logged_by_its_type_and_place(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise ValueError("OPAY_TOKEN_secret")

    periodic = Periodic("chores", work, 0.01)
    periodic.start()
    until(lambda: caplog.text or None, timeout=5)
    periodic.stop()
    assert re.search(r"chores: ValueError at tasks/periodic\.py:\d+; retrying", caplog.text)
    assert "secret" not in caplog.text


def test_a_stop_ends_the_thread_at_once_and_also_before_it_began() -> None:
    periodic = Periodic("chores", lambda: None, 60)
    periodic.stop()
    periodic.join(time.monotonic() + 15)
    periodic = Periodic("chores", lambda: None, 60)
    periodic.start()
    began = time.monotonic()
    periodic.stop()
    periodic.join(time.monotonic() + 15)
    assert time.monotonic() - began < 1
    assert not periodic._thread.is_alive()


def test_threads_that_are_stuck_share_the_time_that_stopping_has_for_them() -> None:
    release, stuck = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        stuck.release()
        release.wait()

    periodics = [Periodic(f"chores-{number}", work, 0.01) for number in range(20)]
    for periodic in periodics:
        periodic.start()
    for _ in periodics:
        assert stuck.acquire(timeout=10)
    began = time.monotonic()
    for periodic in periodics:
        periodic.stop()
        periodic.join(began + 0.5)
    assert time.monotonic() - began < 5, "and not half a second for each"
    release.set()
