"""Threads for calls: interactive ones first, some kept for them, no more than there may be."""

import threading

from cardtoken.contract import Lane
from tasks.threads import CallThreads


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


def test_there_are_no_more_than_there_may_be() -> None:
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


def test_one_thread_serves_bulk_whatever_is_kept() -> None:
    threads, gate = CallThreads(1, "t", reserved=lambda: 1), Gate()
    gate.open()
    threads.submit(Lane.BULK, gate.call, "bulk")
    gate.wait_for(1)
    threads.close()
