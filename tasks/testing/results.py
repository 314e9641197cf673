"""Published results in memory."""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cardtoken.contract import Lane
from tasks.lookups.lookup import Settled


@dataclass
class MemoryResults:
    """The results by task id and index, each published once. ``errors`` are raised by the next calls."""

    settled: dict[tuple[str, int], Settled] = field(default_factory=dict)
    errors: deque[Exception] = field(default_factory=deque)

    def published(self, task_id: str, indexes: Collection[int]) -> set[int]:
        """Return the indexes of the lookups whose results are published."""
        self._ask()
        return {index for index in indexes if (task_id, index) in self.settled}

    def publish(self, task_id: str, provider: str, lane: Lane, settled: Sequence[Settled]) -> int:  # noqa: ARG002
        """Publish results. Return how many of them had been published before."""
        self._ask()
        again = 0
        for step in settled:
            key = task_id, step.lookup.index
            again += key in self.settled
            self.settled.setdefault(key, step)
        return again

    def _ask(self) -> None:
        if self.errors:
            raise self.errors.popleft()
