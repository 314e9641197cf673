"""The pause between attempts: it doubles, is bounded, and may be scattered."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each further attempt, in seconds.

    ``jitter``: up to which share of a pause is taken off at random, so that clients that lost Redis at the same moment
    do not all come back at the same moment.
    """

    first: float
    longest: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for pauses that are none, or do not grow."""
        if not 0 < self.first <= self.longest or not 0 <= self.jitter < 1:
            raise ValueError(f"{self}: 0 < first <= longest and 0 <= jitter < 1 is needed")

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each further attempt, without end."""
        pause = self.first
        while True:
            yield pause * random.uniform(1.0 - self.jitter, 1.0) if self.jitter else pause  # noqa: S311 - no secret
            pause = min(2 * pause, self.longest)
