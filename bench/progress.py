"""Where a benchmark tells how far it is."""

from typing import Protocol


class Tell(Protocol):
    """So much done of so much, and what comes now."""

    def __call__(self, done: float, total: float, doing: str) -> None: ...
