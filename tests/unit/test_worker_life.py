"""The order in which a worker ends, on parts that record what is done with them."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis import ConnectionError as RedisConnectionError

from tasks.build import Parts
from tasks.worker import Worker


class Recorded:
    """A part: each call of a method is written down, with the part's name."""

    def __init__(self, name: str, calls: list[str], fails: bool = False) -> None:
        self._name = name
        self._calls = calls
        self._fails = fails

    def __getattr__(self, method: str) -> Callable[..., None]:
        def call(*_: object) -> None:
            self._calls.append(f"{self._name}.{method}")
            if self._fails:
                raise RedisConnectionError

        return call


def worker_of_nothing() -> Worker:
    nothing: Any = None
    return Worker(nothing, nothing, nothing, nothing)


def built(calls: list[str], **fails: bool) -> Worker:
    """A worker with recorded parts, as it is after ``build``."""
    parts: dict[str, Any] = {
        name: Recorded(name, calls, fails.get(name, False))
        for name in ("processor", "claims", "http", "presence", "rate_limits")
    }
    several: dict[str, Any] = {
        "attempts": {},
        "engines": (Recorded("opay", calls), Recorded("afterpay", calls)),
        "periodic": (Recorded("leases", calls), Recorded("reports", calls)),
    }
    worker = worker_of_nothing()
    worker._parts = Parts(**parts, **several)
    return worker


def test_a_worker_stops_its_threads_then_leaves_redis_then_closes_its_connections() -> None:
    calls: list[str] = []
    built(calls).stop()
    assert calls == [
        *("leases.stop", "reports.stop", "leases.join", "reports.join"),
        *("claims.release_all", "presence.leave"),
        *("opay.close", "afterpay.close", "http.close"),
    ]


def test_a_worker_closes_its_connections_also_while_redis_is_away() -> None:
    calls: list[str] = []
    built(calls, claims=True).stop()
    assert calls[-4:] == ["claims.release_all", "opay.close", "afterpay.close", "http.close"]


def test_a_quiet_worker_touches_none_of_its_parts() -> None:
    calls: list[str] = []
    worker = built(calls)
    worker.quiet()
    assert worker._stopping.is_set()
    assert calls == []


def test_a_process_that_is_not_a_worker_has_nothing_to_start_or_stop_and_runs_no_lookup() -> None:
    worker = worker_of_nothing()
    before = threading.active_count()
    worker.start()
    worker.stop()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="celery -A tasks worker"):
        _ = worker.processor
