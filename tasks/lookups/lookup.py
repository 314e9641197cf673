"""A lookup on its way: read from a message, carried through retries, settled."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from pydantic import ValidationError

from cardtoken.contract import (
    DEFAULT,
    MAX_ERROR_MESSAGE,
    REPLY_PREFIX,
    Lane,
    LookupRequest,
    parse_time,
)
from cardtoken.nearest import unknown_field
from tasks.lookups.carried_state import LookupState, RetryState
from tasks.lookups.outcomes import Failure, NotFound, Outcome

_FIELD_NAME = re.compile(r"[A-Za-z_]{1,40}")


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
    #: The task in which it failed before, where somebody replays a dead letter.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """BatchAdmission the ``requests`` of a message into lookups, the malformed ones included."""

    model: type[LookupRequest]
    deadlines: Mapping[Lane, float]
    #: Names that ``reply_to`` may take besides ``default`` and one-off names; empty: any.
    result_queues: frozenset[str] = frozenset()

    def read(
        self,
        requests: list[object],
        *,
        task_id: str,
        lane: Lane,
        now: datetime,
        expires: datetime | None = None,
        replay_of: str | None = None,
    ) -> list[Lookup]:
        """The lookups of a message that arrives for the first time."""
        lookups = [
            self._lookup(i, sent, task_id=task_id, lane=lane, now=now, expires=expires)
            for i, sent in enumerate(requests)
        ]
        return [replace(lookup, replay_of=replay_of) for lookup in lookups] if replay_of else lookups

    def resume(
        self, requests: list[object], retry: RetryState, *, task_id: str, lane: Lane, now: datetime
    ) -> list[Lookup]:
        """The lookups that a retry carries."""
        return [
            replace(
                self._lookup(state.index, sent, task_id=task_id, lane=lane, now=now),
                lookup_id=state.lookup_id,
                attempts=state.attempts,
                unreadable=state.unreadable,
                requested_at=state.requested_at,
                deadline=state.deadline,
                not_before=state.not_before,
                replay_of=state.replay_of,
            )
            for sent, state in zip(requests, retry.lookups, strict=True)
        ]

    def _lookup(
        self, index: int, sent: object, *, task_id: str, lane: Lane, now: datetime, expires: datetime | None = None
    ) -> Lookup:
        fields: Mapping[str, Any] = sent if isinstance(sent, dict) else {}
        request, bad, fault = self._validate(sent)

        def own(name: str, otherwise: Any) -> Any:
            # What is wrong with one field leaves the others what they are: the answer still finds its asker.
            if request is not None:
                value = getattr(request, name)
                return otherwise if value is None else value
            return otherwise if name in bad or name not in fields else fields[name]

        requested_at = own("requested_at", now)
        requested_at = requested_at if isinstance(requested_at, datetime) else parse_time(requested_at)
        deadline = request.deadline if request else None
        if deadline is None:
            try:
                deadline = requested_at + timedelta(seconds=self.deadlines[lane])
            except OverflowError:
                deadline = requested_at
        return Lookup(
            index=index,
            lookup_id=own("lookup_id", f"{task_id}:{index}"),
            account=own("account", DEFAULT),
            reply_to=own("reply_to", DEFAULT),
            requested_at=requested_at,
            deadline=min(deadline, expires) if expires else deadline,
            metadata=own("metadata", {}),
            sent=sent,
            request=request,
            fault=fault,
        )

    def _validate(self, sent: object) -> tuple[LookupRequest | None, frozenset[str], str | None]:
        if not isinstance(sent, dict):
            return None, frozenset(), "the request is not an object"
        # Optional means that it may be left out; null is of no field's type.
        nulls = [name for name, value in sent.items() if value is None]
        faults = [f"{_shown(name)}: must not be null" for name in nulls]
        # Half of a surrogate pair in a name would hide from pydantic what is wrong with all the others.
        given = {name: value for name, value in sent.items() if value is not None and name.isascii()}
        faults += [f"{_shown(name)}: there is no such field" for name in sent if not name.isascii()]
        bad = set(nulls)
        request: LookupRequest | None = None
        try:
            request = self.model.model_validate(given)
        except ValidationError as error:
            for detail in error.errors(include_input=False, include_url=False, include_context=False):
                name = str(detail["loc"][0])
                if detail["type"] == "extra_forbidden":
                    faults.append(unknown_field(name, self.model.model_fields))
                    bad.add(name)
                elif name not in nulls:
                    faults.append(f"{_shown(name)}: {detail['msg'].removeprefix('Value error, ')}")
                    bad.add(name)
        reply_to = sent.get("reply_to", DEFAULT)
        if "reply_to" not in bad and not self._may_reply_to(reply_to):
            faults.append("reply_to: not one of the result queues of this service")
            bad.add("reply_to")
        if not faults:
            return request, frozenset(), None
        return None, frozenset(bad), ("; ".join(faults))[:MAX_ERROR_MESSAGE]

    def _may_reply_to(self, name: str) -> bool:
        return not self.result_queues or name == DEFAULT or name.startswith(REPLY_PREFIX) or name in self.result_queues


def _shown(name: str) -> str:
    # An unknown field's name is the producer's free text, and ends in logs.
    return name if _FIELD_NAME.fullmatch(name) else "an unknown field"
