"""Keys that are taken up while a worker runs: what it logs, counts and waits for."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import Gauge

from config.errors import Fault
from sandbox.waiting import until
from tasks.reload import Reloader
from tasks.telemetry import metrics
from tasks.testing.clock import FakeClock

NEW: Any = object()


class Files:
    """A source whose looks are scripted."""

    def __init__(self) -> None:
        self.faults: tuple[Fault, ...] = ()
        self.found: Any = None
        self.looks: list[bool] = []
        self.on_look: Callable[[], object] = lambda: None

    def look(self, *, settle: bool = False) -> Any:
        self.looks.append(settle)
        self.on_look()
        found, self.found = self.found, None
        return found


def reloader_of(files: Any, taken: list[Any], clock: FakeClock | None = None) -> Reloader:
    return Reloader(files, taken.append, (clock or FakeClock()).monotonic)


def value(metric: Gauge) -> float:
    return float(metric._value.get())


def test_a_broken_file_is_logged_once_for_each_change_and_told_until_it_is_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tasks")
    files = Files()
    taken: list[Any] = []
    reloader = reloader_of(files, taken)
    assert value(metrics.CONFIG_RELOAD_SUCCESSFUL) == 1
    files.faults = (Fault("PROVIDER_ACCOUNTS_FILE", "is not JSON", "write JSON"),)
    for _ in range(3):
        reloader.look()
    assert reloader.trouble == "PROVIDER_ACCOUNTS_FILE is not JSON"
    assert value(metrics.CONFIG_RELOAD_SUCCESSFUL) == 0
    files.faults = ()
    before = value(metrics.CONFIG_RELOAD_SUCCESS_SECONDS)
    files.found = NEW
    for _ in range(3):
        reloader.look()
    assert taken == [NEW]
    assert reloader.trouble == ""
    assert value(metrics.CONFIG_RELOAD_SUCCESSFUL) == 1
    assert value(metrics.CONFIG_RELOAD_SUCCESS_SECONDS) >= before
    assert caplog.messages == [
        "the old keys or accounts stay in use: PROVIDER_ACCOUNTS_FILE is not JSON (write JSON)",
        "new keys or accounts are in use",
        "the files of keys and accounts are in order again",
    ]


def test_refused_calls_share_one_look_and_make_no_other_for_a_second() -> None:
    files, clock = Files(), FakeClock()
    reloader = reloader_of(files, [], clock)
    go_on = threading.Event()
    files.on_look = lambda: go_on.wait(5)
    calls = [threading.Thread(target=reloader.look_now) for _ in range(8)]
    for call in calls:
        call.start()
    until(lambda: files.looks or None)
    go_on.set()
    for call in calls:
        call.join(5)
    reloader.look_now()
    assert files.looks == [True]
    clock.advance(1)
    reloader.look_now()
    assert files.looks == [True, True]


def test_a_refused_call_does_not_wait_for_files_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.reload._LONGEST_WAIT_SECONDS", 0.01)
    files, go_on = Files(), threading.Event()
    files.on_look = lambda: go_on.wait(10)
    reloader = reloader_of(files, [])
    reloader.look_now()
    assert not go_on.is_set()
    go_on.set()


def test_a_look_that_fails_unexpectedly_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    files = Files()

    def fail() -> None:
        raise ValueError("canary")

    files.on_look = fail
    reloader_of(files, []).look_now()
    assert "looking for new keys ended in ValueError" in caplog.text
    assert "canary" not in caplog.text
