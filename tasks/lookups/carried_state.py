"""The state that a retry carries, in a versioned shape that workers of the previous and the next release can read."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cardtoken.contract import MAX_REQUESTS, Time

#: Increased when a field changes its meaning. Fields may be added without: readers ignore those they do not know.
STATE_VERSION: Final = 1

Position = Annotated[int, Field(ge=0, lt=MAX_REQUESTS)]


class LookupState(BaseModel):
    """The progress of one lookup. Its request is at the same place of the message's ``requests``."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    #: Its place in the list that the producer sent. Together with the task id it identifies the lookup.
    index: Position
    lookup_id: Annotated[str, Field(min_length=1, max_length=512)]
    #: Calls made so far.
    attempts: Annotated[int, Field(ge=0)]
    #: The number of unreadable answers.
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
