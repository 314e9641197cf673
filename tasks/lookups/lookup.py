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
    """One lookup, of one message, at one provider."""

    index: int
    lookup_id: str
    account: str
    reply_to: str
    requested_at: datetime
    deadline: datetime
    metadata: Mapping[str, str] = field(repr=False)
    #: As the producer sent it; what a dead letter keeps and a retry carries.
    sent: object = field(repr=False)
    #: None where what was sent is no valid request; then ``fault`` says why.
    request: LookupRequest | None = field(repr=False)
    fault: str | None = None
    #: Calls made so far.
    attempts: int = 0
    #: Those of them whose answer could not be read.
    unreadable: int = 0
    #: When the next call may be made, if it has to wait.
    not_before: datetime | None = None
    #: The task in which it failed before, where an operator replays a dead letter.
    replay_of: str | None = None

    @property
    def shown_id(self) -> str:
        """The id for logs; a producer that made it of the card token has that masked."""
        reference = self.request.reference if self.request else None
        if reference is None or reference.get_secret_value() not in self.lookup_id:
            return self.lookup_id
        return str(reference)

    def attempted(self) -> Self:
        """The same lookup, one call later."""
        return replace(self, attempts=self.attempts + 1, not_before=None)

    def unread(self) -> Self:
        """The same lookup, after an answer that could not be read."""
        return replace(self, unreadable=self.unreadable + 1)

    def waiting_until(self, not_before: datetime) -> Self:
        """The same lookup, to be tried again not before a moment."""
        return replace(self, not_before=not_before)

    def sooner(self, by: timedelta) -> Self:
        """The same lookup, to be tried again that much sooner, if it has to wait."""
        return self if self.not_before is None else replace(self, not_before=self.not_before - by)

    def is_due(self, now: datetime) -> bool:
        """Whether the next call may be made, or there is none to make: a lookup past its deadline waits no longer."""
        return self.not_before is None or self.not_before <= now or self.deadline <= now

    def state(self) -> LookupState:
        """What a retry carries beside the request as sent."""
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
    """A lookup with its final outcome. ``call_seconds``: what the last call took, where there was one."""

    lookup: Lookup
    outcome: Outcome
    completed_at: datetime
    call_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A lookup that was not begun, because the worker ends."""

    lookup: Lookup


class Reason(StrEnum):
    """Why a lookup is not asked for now."""

    #: Its account's circuit is open: calls fail, or a person holds it.
    CIRCUIT = "circuit"
    #: Its account's rate is used up.
    RATE_LIMIT = "rate_limit"
    #: The provider asked to be left alone.
    RETRY_AFTER = "retry_after"
    #: This worker lacks what a call takes, such as a file descriptor.
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A lookup that is not asked for now, and may be in so many seconds."""

    lookup: Lookup
    seconds: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Postponed:
    """A lookup that will be tried again, and what it is for: a failure, or a not-found that may be too early."""

    lookup: Lookup
    why: Failure | NotFound


#: What a run of the engine makes of a lookup.
Step = Settled | Postponed | Blocked | NotStarted
