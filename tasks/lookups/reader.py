"""From the ``requests`` of a message to lookups, the malformed ones included."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from cardtoken.contract import DEFAULT, MAX_ERROR_MESSAGE, REPLY_PREFIX, Lane, LookupRequest, parse_time
from cardtoken.nearest import unknown_field
from tasks.lookups.carried_state import RetryState
from tasks.lookups.lookup import Lookup

_FIELD_NAME = re.compile(r"[A-Za-z_]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReader:
    """Reads the requests of one provider. ``deadlines`` are the seconds that a lookup of each lane has by default."""

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
        """Return the lookups of a message that arrives for the first time."""
        lookups = [
            self._lookup(i, sent, task_id=task_id, lane=lane, now=now, expires=expires)
            for i, sent in enumerate(requests)
        ]
        return [replace(lookup, replay_of=replay_of) for lookup in lookups] if replay_of else lookups

    def resume(
        self, requests: list[object], retry: RetryState, *, task_id: str, lane: Lane, now: datetime
    ) -> list[Lookup]:
        """Return the lookups that a retry carries."""
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
            # One bad field leaves the others as they are: the result still reaches the queue that it was asked for on.
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
