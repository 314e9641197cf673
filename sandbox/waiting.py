"""Waiting for a condition."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(ask: Callable[[], T | None], timeout: float = 20.0, pause: float = 0.01) -> T:
    """Return the first value of ``ask`` that is not None; raise AssertionError after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while (value := ask()) is None:
        if time.monotonic() > end:
            raise AssertionError(f"not so after {timeout} s")
        time.sleep(pause)
    return value
