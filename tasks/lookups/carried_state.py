"""What travels in a retry: a versioned shape that the workers of the release before and after can read."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cardtoken.contract import MAX_REQUESTS, Time

#: Grows when a field changes its meaning. Fields may be added without: readers ignore what they do not know.
STATE_VERSION: Final = 1

Position = Annotated[int, Field(ge=0, lt=MAX_REQUESTS)]


class LookupState(BaseModel):
    """How far one lookup has come. Its request stands at the same place of the message's ``requests``."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    #: Its place in the list that the producer sent: with the task id, what tells it from all others.
    index: Position
    lookup_id: Annotated[str, Field(min_length=1, max_length=512)]
    #: Calls made so far.
    attempts: Annotated[int, Field(ge=0)]
    #: Those of them whose answer could not be read.
    unreadable: Annotated[int, Field(ge=0)] = 0
    requested_at: Time
    deadline: Time
    #: Before this moment no further call is made.
    not_before: Time | None = None
    #: The task in which it failed before, where an operator replays a dead letter.
    replay_of: Annotated[str, Field(max_length=255)] | None = None


def _distinct(lookups: list[LookupState]) -> list[LookupState]:
    if len({lookup.index for lookup in lookups}) != len(lookups):
        raise ValueError("two lookups have the same index")
    return lookups


class RetryState(BaseModel):
    """The keyword argument ``retry`` of a task that comes back to the queue."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    version: Annotated[int, Field(ge=1)] = STATE_VERSION
    lookups: Annotated[list[LookupState], AfterValidator(_distinct)]
