"""Claims and the quarantine in memory, of one worker."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tasks.broker.claims import Claim


@dataclass(frozen=True, slots=True)
class Deferred:
    """An entry that waits in a queue until it is due."""

    claim_id: str
    queue: str
    entry: bytes
    due: datetime


@dataclass
class MemoryClaims:
    """What a worker did with its claims, by claim id, in the order in which it did.

    ``lost`` are claims that are not the worker's any more, ``suspects`` the notes of lookups that ran alone. ``errors``
    are raised by the next calls that ask Redis.
    """

    lost: set[str] = field(default_factory=set)
    suspects: dict[str, int] = field(default_factory=dict)
    errors: deque[Exception] = field(default_factory=deque)
    published_lookups: list[tuple[str, str, list[int]]] = field(default_factory=list)
    deferrals: list[tuple[str, str, str, list[int]]] = field(default_factory=list)
    deferred_entries: list[Deferred] = field(default_factory=list)
    ran_alone: list[tuple[str, int]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    released_unstarted: list[str] = field(default_factory=list)
    postponed: list[tuple[str, datetime]] = field(default_factory=list)
    held: Counter[str] = field(default_factory=Counter)

    def begin(self, claim_id: str) -> bool:
        """Return whether the claim is this worker's."""
        return claim_id not in self.lost

    def in_hand(self) -> Counter[str]:
        """Return how many claims of each queue are in hand."""
        return self.held

    def published(self, claim_id: str, task_id: str, indexes: Iterable[int]) -> None:
        """Note that results are published."""
        self.published_lookups.append((claim_id, task_id, sorted(indexes)))

    def deferred(self, claim_id: str, deferral: str, task_id: str, indexes: Iterable[int]) -> None:
        """Note that the other lookups are in another entry."""
        self.deferrals.append((claim_id, deferral, task_id, sorted(indexes)))

    def defer(self, claim_id: str, queue: str, entry: bytes, due: datetime) -> None:
        """Put an entry that is due later. Putting the same twice leaves one."""
        deferred = Deferred(claim_id, queue, entry, due)
        if deferred not in self.deferred_entries:
            self.deferred_entries.append(deferred)
        self._ask()

    def mark_running(self, claim_id: str, index: int) -> None:
        """Note that a lookup runs alone."""
        self._ask()
        self.ran_alone.append((claim_id, index))

    def suspected(self, claim_id: str) -> int | None:
        """Return the lookup that ran alone when a worker died."""
        self._ask()
        return self.suspects.get(claim_id)

    def forget(self, claim_id: str) -> None:
        """Forget a claim that is not in Redis any more."""
        self.forgotten.append(claim_id)

    def release(self, claim_id: str) -> None:
        """Put a message back into its queue."""
        self.released.append(claim_id)

    def release_unstarted(self, claim_id: str) -> None:
        """Put a message of which nothing was run back into its queue."""
        self.released_unstarted.append(claim_id)

    def postpone(self, claim: Claim, due: datetime) -> None:
        """Let a claimed entry wait until it is due."""
        self.postponed.append((claim.id, due))

    def _ask(self) -> None:
        if self.errors:
            raise self.errors.popleft()


@dataclass
class MemoryQuarantine:
    """The claims that went to quarantine, each with the reason. ``errors`` are raised by the next calls."""

    entries: list[tuple[str, str]] = field(default_factory=list)
    errors: deque[Exception] = field(default_factory=deque)

    def add(self, claim_id: str, reason: str) -> None:
        """Keep an entry."""
        if self.errors:
            raise self.errors.popleft()
        self.entries.append((claim_id, reason))
