"""Threads for calls: interactive ones first, some kept for them, no more than there may be."""

import threading

import pytest

from cardtoken.contract import Lane
from tasks.broker.pool import TaskPool
from tasks.calls.threads import CallThreads


class Gate:
    """Calls that last until they are let go, and in which order they began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open = threading.Event()

    def call(self, name: str) -> None:
        with self._changed:
            self.began.append(name)
            self._changed.notify_all()
        assert self._open.wait(10)

    def wait_for(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.began) >= count, 5)
            return list(self.began)

    def open(self) -> None:
        self._open.set()


def test_calls_run_on_no_more_threads_than_allowed() -> None:
    threads, gate = CallThreads(3, "t"), Gate()
    for number in range(10):
        threads.submit(Lane.BULK, gate.call, str(number))
    assert gate.wait_for(3) == ["0", "1", "2"]
    gate.open()
    gate.wait_for(10)
    threads.close()


def test_all_that_are_asked_for_at_once_run_at_once() -> None:
    for _ in range(50):
        threads, gate = CallThreads(4, "t"), Gate()
        threads.submit(Lane.BULK, gate.call, "first")
        gate.wait_for(1)
        for number in range(3):
            threads.submit(Lane.INTERACTIVE, gate.call, str(number))
        gate.wait_for(4)
        gate.open()
        threads.close()


def test_some_are_kept_for_interactive_calls() -> None:
    threads, gate = CallThreads(4, "t", reserved=lambda: 1), Gate()
    for number in range(10):
        threads.submit(Lane.BULK, gate.call, f"bulk-{number}")
    gate.wait_for(3)
    threads.submit(Lane.INTERACTIVE, gate.call, "shopper")
    assert gate.wait_for(4)[-1] == "shopper"
    gate.open()
    gate.wait_for(11)
    threads.close()


def test_interactive_calls_go_first() -> None:
    threads, gate, first = CallThreads(1, "t"), Gate(), Gate()
    threads.submit(Lane.BULK, first.call, "first")
    first.wait_for(1)
    for number in range(3):
        threads.submit(Lane.BULK, gate.call, f"bulk-{number}")
    threads.submit(Lane.INTERACTIVE, gate.call, "shopper")
    gate.open()
    first.open()
    assert gate.wait_for(4) == ["shopper", "bulk-0", "bulk-1", "bulk-2"]
    threads.close()


def test_one_thread_always_serves_bulk() -> None:
    threads, gate = CallThreads(1, "t", reserved=lambda: 1), Gate()
    gate.open()
    threads.submit(Lane.BULK, gate.call, "bulk")
    gate.wait_for(1)
    threads.close()


# --- a machine that starts no thread any more


class Scarce:
    """Lets so many threads be started and no more, as a limit of processes does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.allowed = allowed
        start = threading.Thread.start

        def scarce(thread: threading.Thread) -> None:
            if self.allowed <= 0:
                raise RuntimeError("can't start new thread")
            self.allowed -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)


def test_the_threads_that_there_are_make_all_calls_where_no_other_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Scarce(monkeypatch, 2)
    threads, gate = CallThreads(8, "t"), Gate()
    gate.open()
    for number in range(20):
        threads.submit(Lane.BULK, gate.call, str(number))
    gate.wait_for(20)
    threads.close()


def test_where_there_is_no_thread_at_all_the_caller_makes_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    scarce = Scarce(monkeypatch, 0)
    threads, gate = CallThreads(8, "t"), Gate()
    gate.open()
    threads.submit(Lane.BULK, gate.call, "here")
    assert gate.began == ["here"]
    scarce.allowed = 1
    threads.submit(Lane.INTERACTIVE, gate.call, "there")
    assert gate.wait_for(2) == ["here", "there"]
    threads.close()


def test_a_thread_counts_once_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    scarce = Scarce(monkeypatch, 1)
    threads, gate = CallThreads(3, "t"), Gate()
    for number in range(3):
        threads.submit(Lane.BULK, gate.call, str(number))
    assert gate.wait_for(1) == ["0"]
    scarce.allowed = 5
    threads.submit(Lane.BULK, gate.call, "3")
    threads.submit(Lane.BULK, gate.call, "4")
    assert sorted(gate.wait_for(3)) == ["0", "1", "2"]
    assert scarce.allowed == 3
    gate.open()
    gate.wait_for(5)
    threads.close()


def test_calls_that_neither_begin_nor_end_are_noticed() -> None:
    threads, gate = CallThreads(1, "t"), Gate()
    assert threads.stalled_seconds == 0
    threads.submit(Lane.BULK, gate.call, "0")
    gate.wait_for(1)
    before = threads.stalled_seconds
    assert threads.stalled_seconds > before >= 0
    gate.open()
    threads.close()
    assert threads.stalled_seconds == 0


def test_messages_go_on_with_the_threads_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    scarce = Scarce(monkeypatch, 1)
    pool, gate = TaskPool(limit=4), Gate()
    pool.start()
    scarce.allowed = 1
    gate.open()
    for number in range(10):
        pool.apply_async(gate.call, (str(number),), accept_callback=None)
    gate.wait_for(10)
    assert len(pool.executor._threads) == 2
    pool.stop()
