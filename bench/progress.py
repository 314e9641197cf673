"""Where a benchmark reports how far it is."""

from typing import Protocol


class ReportProgress(Protocol):
    """So much done of so much, and what comes now."""

    def __call__(self, done: float, total: float, doing: str) -> None: ...
