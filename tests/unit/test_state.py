"""What travels in a retry can be read by the workers of the release before and after."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.lookups.carried_state import STATE_VERSION, LookupState, RetryState

#: A state as this release writes it. It must be read by every later one: do not change it, add another.
VERSION_1 = """
{"version": 1, "lookups": [{"index": 7, "lookup_id": "order-1", "attempts": 2, "unreadable": 0,
 "requested_at": "2026-01-31T12:00:00Z", "deadline": "2026-01-31T13:00:00.500000Z",
 "not_before": "2026-01-31T12:00:04Z", "replay_of": null}]}
"""
STATE = RetryState(
    lookups=[
        LookupState(
            index=7,
            lookup_id="order-1",
            attempts=2,
            requested_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
            deadline=datetime(2026, 1, 31, 13, 0, 0, 500_000, tzinfo=UTC),
            not_before=datetime(2026, 1, 31, 12, 0, 4, tzinfo=UTC),
        )
    ]
)


def lookup(**changes: Any) -> dict[str, Any]:
    """A lookup's state as JSON with fields changed; one that becomes ``...`` is left out."""
    content = {**json.loads(VERSION_1)["lookups"][0], **changes}
    return {name: value for name, value in content.items() if value is not ...}


def test_the_shape_of_this_release_is_written_and_read() -> None:
    assert RetryState.model_validate_json(VERSION_1) == STATE
    assert STATE.model_dump(mode="json") == json.loads(VERSION_1)
    assert STATE.version == STATE_VERSION


def test_a_later_version_with_unknown_fields_is_read() -> None:
    later = {"version": 9, "shape": "new", "lookups": [lookup(circuit="open", nested={"a": [1]})]}
    state = RetryState.model_validate(later)
    assert state.version == 9
    assert state.lookups == STATE.lookups


@pytest.mark.parametrize(
    "changes",
    [
        {"not_before": ...},  # fields added since may be missing
        {"not_before": None},
        {"unreadable": ...},  # written by the release before
        {"attempts": 0},  # not asked yet: its account's circuit was open
        {"index": 0},
        {"index": 499},
        {"lookup_id": "x" * 512},  # a long task id and an index
        {"requested_at": "2026-01-31T13:00:00+01:00"},
    ],
)
def test_a_state_within_its_bounds_is_read(changes: dict[str, Any]) -> None:
    [read] = RetryState.model_validate({"lookups": [lookup(**changes)]}).lookups
    assert read.deadline == STATE.lookups[0].deadline
    assert read.requested_at.tzinfo is UTC


@pytest.mark.parametrize(
    "changes",
    [
        {"index": ...},
        {"index": -1},
        {"index": 500},  # no list is so long
        {"index": None},
        {"index": "first"},
        {"index": 1.5},
        {"lookup_id": ...},
        {"lookup_id": ""},
        {"lookup_id": 7},
        {"lookup_id": "x" * 513},
        {"lookup_id": "\ud800"},
        {"attempts": ...},
        {"attempts": -1},
        {"attempts": "often"},
        {"requested_at": ...},
        {"requested_at": "yesterday"},
        {"requested_at": 1767225600},
        {"deadline": ...},
        {"deadline": None},
        {"deadline": "2026-01-31T13:00:00"},  # which noon?
        {"not_before": "soon"},
    ],
)
def test_a_state_that_does_not_fit_is_refused_without_being_quoted(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        RetryState.model_validate({"lookups": [lookup(**changes)]})
    assert "order-1" not in str(caught.value)


@pytest.mark.parametrize("state", [None, 5, "retry", [], {}, {"lookups": None}, {"lookups": {}}, {"lookups": [5]}])
def test_a_document_that_is_not_a_retry_state_is_refused(state: object) -> None:
    with pytest.raises(ValidationError):
        RetryState.model_validate(state)


@pytest.mark.parametrize("version", [0, -1, None, "two", []])
def test_a_version_that_is_none_is_refused(version: object) -> None:
    with pytest.raises(ValidationError, match="version"):
        RetryState.model_validate({"version": version, "lookups": [lookup()]})


def test_two_lookups_cannot_have_the_same_place() -> None:
    with pytest.raises(ValidationError, match="same index"):
        RetryState.model_validate({"lookups": [lookup(), lookup(lookup_id="order-2")]})
