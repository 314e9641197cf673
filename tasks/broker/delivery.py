"""What a worker knows of one delivery of a message, and how that crosses Celery: written and read here alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, Self

from cardtoken.contract import Lane

#: Header that Celery's request of a message adds when the message is about to begin: whether it was revoked.
REVOKED: Final = "lookup_revoked"
#: The largest number of retries that an entry may hold.
MOST_RETRIES: Final = (1 << 31) - 1


class _Request(Protocol):
    """Celery's context of a running task, or a mapping of the same names."""

    def get(self, key: str, default: Any = None, /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery of a message to this worker; the requests travel beside it."""

    #: Celery's name of the task, such as ``lookup.opay``.
    task: str
    task_id: str
    #: The claim under which this worker holds the queue's entry.
    claim_id: str
    #: The list that the entry was found in.
    queue: str
    priority: int
    #: How many deliveries before this one ended in a retry.
    retries: int
    #: Whether a worker had the message before, and how many workers died with it.
    redelivered: bool
    deaths: int
    #: When the first worker claimed it.
    seen: datetime
    #: How much earlier it came, by Redis' clock, than the worker that deferred it had written: by so much that worker's
    #: clock was ahead, or Redis' clock was set back.
    early: timedelta = timedelta()
    #: When its lookups expire. Celery must not see it: it would drop an expired message without a result.
    expires: datetime | None = None
    #: The task id under which the same was asked before.
    replay_of: str | None = None
    revoked: bool = False

    @property
    def provider(self) -> str:
        """The provider that the lookups are for."""
        return self.task.removeprefix("lookup.")

    @property
    def lane(self) -> Lane:
        """The lane of its queue; a queue that is not one of this service's counts as bulk, the patient lane."""
        return Lane.INTERACTIVE if self.queue.endswith(f".{Lane.INTERACTIVE}") else Lane.BULK

    def to_headers(self) -> Mapping[str, Any]:
        """Return the headers that :meth:`from_request` reads, as JSON. They never leave the worker's process."""
        return {
            "task": self.task,
            "id": self.task_id,
            "retries": self.retries,
            "lookup_claim": self.claim_id,
            "lookup_queue": self.queue,
            "lookup_priority": self.priority,
            "lookup_redelivered": self.redelivered,
            "lookup_deaths": self.deaths,
            "lookup_seen": self.seen.isoformat(),
            "lookup_early": self.early.total_seconds(),
            "lookup_expires": self.expires.isoformat() if self.expires else None,
            "lookup_replayed": self.replay_of,
            REVOKED: self.revoked,
        }

    @classmethod
    def from_request(cls, request: _Request) -> Self:
        """Return the delivery that a running task is about."""
        expires = request.get("lookup_expires")
        return cls(
            task=request.get("task"),
            task_id=request.get("id"),
            retries=request.get("retries"),
            claim_id=request.get("lookup_claim"),
            queue=request.get("lookup_queue"),
            priority=request.get("lookup_priority"),
            redelivered=request.get("lookup_redelivered"),
            deaths=request.get("lookup_deaths"),
            seen=datetime.fromisoformat(request.get("lookup_seen")),
            early=timedelta(seconds=request.get("lookup_early")),
            expires=datetime.fromisoformat(expires) if expires else None,
            replay_of=request.get("lookup_replayed"),
            revoked=request.get(REVOKED),
        )
