"""What has to be in Redis for a claim to end: the results published for it, and the entry that goes on with it.

A primary that hangs, is replaced and comes to itself for a moment confirms what its successor never sees. The claim
ends on the successor, and only there is it known what is missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.stores import fences


@dataclass(slots=True)
class Proof:
    """The proof of one claim. Lookups are identified by task id and index."""

    published: set[tuple[str, int]] = field(default_factory=set)
    #: The claim id of the entry that waits with the lookups that are not over, "" where there is none, and these.
    deferral: str = ""
    deferred: frozenset[tuple[str, int]] = frozenset()

    def __len__(self) -> int:
        """How many lookups are looked for."""
        return len(self.published) + len(self.deferred)

    def arguments(self) -> list[str | int]:
        """What settle.lua takes of it."""
        fences = [*_fences(self.published), *_fences(self.deferred)]
        return [self.deferral, len(self.published), len(self.deferred), *fences]


def _fences(lookups: Iterable[tuple[str, int]]) -> list[int]:
    return [part for task_id, index in lookups for part in fences.fence(task_id, index)]
