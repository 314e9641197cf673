"""What a run did, what it was to show, and what it measured."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Figure = int | float | str


class ReportProgress(Protocol):
    """Where a run reports how far it is."""

    def __call__(self, done: float, total: float, doing: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a run is to be made."""

    #: 1 is the full form; every count shrinks with it.
    scale: float
    seed: int
    progress: ReportProgress

    def of(self, full: int, least: int = 1) -> int:
        """A count at this scale."""
        return max(least, round(full * self.scale))

    def chance(self, *what: object) -> random.Random:
        """Choices of their own for each purpose: one more draw for one changes nothing of another."""
        return random.Random(repr((self.seed, *what)))  # noqa: S311 - to be drawn again from the seed that is printed


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The figures of one run. ``passed`` is None where there is no goal and the figures stand for comparison."""

    goal: str
    passed: bool | None
    done: Mapping[str, Figure]
    figures: Mapping[str, Figure]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
