"""A lookup and the steps that it can take: settled, postponed, blocked, not started."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from cardtoken.contract import LookupRequest
from tasks.lookups.carried_state import LookupState
from tasks.lookups.outcomes import Failure, NotFound, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One lookup of a message."""

    index: int
    lookup_id: str
    account: str
    reply_to: str
    requested_at: datetime
    deadline: datetime
    metadata: Mapping[str, str] = field(repr=False)
    #: As the producer sent it: a dead letter keeps it, a retry carries it.
    sent: object = field(repr=False)
    #: None if what was sent is not a valid request; then ``fault`` says why.
    request: LookupRequest | None = field(repr=False)
    fault: str | None = None
    #: Calls made so far.
    attempts: int = 0
    #: The number of unreadable answers.
    unreadable: int = 0
    #: No further call before this moment.
    not_before: datetime | None = None
    #: The task in which it failed before, where an operator replays a dead letter.
    replay_of: str | None = None

    @property
    def shown_id(self) -> str:
        """Return the id for logs. A card token in it is masked."""
        reference = self.request.reference if self.request else None
        if reference is None or reference.get_secret_value() not in self.lookup_id:
            return self.lookup_id
        return str(reference)

    def attempted(self) -> Self:
        """Return the lookup after one more call."""
        return replace(self, attempts=self.attempts + 1, not_before=None)

    def unread(self) -> Self:
        """Return the lookup after an unreadable answer."""
        return replace(self, unreadable=self.unreadable + 1)

    def waiting_until(self, not_before: datetime) -> Self:
        """Return the lookup, to be retried not before that moment."""
        return replace(self, not_before=not_before)

    def sooner(self, by: timedelta) -> Self:
        """Return the lookup, to be retried that much sooner if it has to wait."""
        return self if self.not_before is None else replace(self, not_before=self.not_before - by)

    def is_due(self, now: datetime) -> bool:
        """Return whether it need not wait any longer: the next call may be made, or the deadline has passed."""
        return self.not_before is None or self.not_before <= now or self.deadline <= now

    def state(self) -> LookupState:
        """Return what a retry carries beside the request as sent."""
        return LookupState(
            index=self.index,
            lookup_id=self.lookup_id,
            attempts=self.attempts,
            unreadable=self.unreadable,
            requested_at=self.requested_at,
            deadline=self.deadline,
            not_before=self.not_before,
            replay_of=self.replay_of,
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """A lookup with its final outcome. ``call_seconds``: how long the last call took, if there was one."""

    lookup: Lookup
    outcome: Outcome
    completed_at: datetime
    call_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A lookup for which no call was begun, because the worker stops."""

    lookup: Lookup


class Reason(StrEnum):
    """Why a lookup is blocked."""

    #: Its account's circuit is open: calls fail, or an operator holds it open.
    CIRCUIT = "circuit"
    #: Its account's rate is used up.
    RATE_LIMIT = "rate_limit"
    #: The provider asked to be left alone.
    RETRY_AFTER = "retry_after"
    #: This worker lacks what a call takes, such as a file descriptor.
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A lookup that may not be called now. It may be retried after ``seconds``."""

    lookup: Lookup
    seconds: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Postponed:
    """A lookup that will be retried, and why: a failure, or a not-found that may be too early."""

    lookup: Lookup
    why: Failure | NotFound


#: What a run of the engine makes of a lookup.
Step = Settled | Postponed | Blocked | NotStarted
