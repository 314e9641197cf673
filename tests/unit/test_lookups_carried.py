"""Where a lookup's result may go, until when it counts, and what a retry carries of it."""

from datetime import UTC, datetime, timedelta

import pytest

from cardtoken.contract import Lane
from cardtoken.providers import OpayRequest
from tasks.lookups.carried_state import LookupState, RetryState
from tasks.lookups.lookup import Lookup
from tasks.lookups.reader import RequestReader

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DEADLINES = {Lane.INTERACTIVE: 30.0, Lane.BULK: 3600.0}
GOOD = {"opay_token": "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"}
OWN = {"lookup_id": "order:1.a_b-C", "account": "emea", "reply_to": "reply.1", "metadata": {"order": "A-1"}}


def reader(queues: frozenset[str] = frozenset()) -> RequestReader:
    return RequestReader(model=OpayRequest, deadlines=DEADLINES, result_queues=queues)


def read(
    sent: object, *, lane: Lane = Lane.BULK, expires: datetime | None = None, queues: frozenset[str] = frozenset()
) -> Lookup:
    [lookup] = reader(queues).read([sent], task_id="task", lane=lane, now=NOW, expires=expires)
    return lookup


# --- where results may go


@pytest.mark.parametrize(
    ("queues", "reply_to", "valid"),
    [
        (frozenset(), "anything", True),  # no list: any
        (frozenset({"checkout"}), "checkout", True),
        (frozenset({"checkout"}), "default", True),  # always there
        (frozenset({"checkout"}), "reply.7f3a", True),  # and so are one-off queues
        (frozenset({"checkout"}), "autopay", False),
        (frozenset({"checkout"}), "checkout2", False),
        (frozenset({"checkout"}), "replies", False),
    ],
)
def test_results_go_only_where_they_may(queues: frozenset[str], reply_to: str, valid: bool) -> None:
    lookup = read({**GOOD, **OWN, "reply_to": reply_to}, queues=queues)
    assert (lookup.request is not None) is valid
    assert lookup.reply_to == (reply_to if valid else "default")
    assert lookup.lookup_id == "order:1.a_b-C"


# --- until when


@pytest.mark.parametrize(("lane", "seconds"), [(Lane.INTERACTIVE, 30), (Lane.BULK, 3600)])
def test_without_its_own_deadline_a_lookup_has_its_lanes(lane: Lane, seconds: int) -> None:
    assert read(GOOD, lane=lane).deadline == NOW + timedelta(seconds=seconds)
    earlier = read({**GOOD, "requested_at": "2026-01-31T11:59:00Z"}, lane=lane)
    assert earlier.deadline == NOW + timedelta(seconds=seconds - 60)


@pytest.mark.parametrize(
    ("own", "expires", "deadline"),
    [
        (None, None, 3600),
        (None, 10, 10),  # the message's expires, where it comes first
        (None, 7200, 3600),  # and the lane's, where that does
        (20, 10, 10),
        (5, 10, 5),
        (7200, None, 7200),  # a lookup's own may be later than its lane's
        (-5, None, -5),  # past before it came
    ],
)
def test_the_earliest_end_counts(own: int | None, expires: int | None, deadline: int) -> None:
    sent = GOOD if own is None else {**GOOD, "deadline": (NOW + timedelta(seconds=own)).isoformat()}
    lookup = read(sent, expires=None if expires is None else NOW + timedelta(seconds=expires))
    assert lookup.deadline == NOW + timedelta(seconds=deadline)


def test_a_lookup_of_the_last_day_of_the_calendar_has_a_deadline() -> None:
    lookup = read({**GOOD, "requested_at": "9999-12-31T23:59:59Z"})
    assert lookup.deadline == lookup.requested_at


# --- through a retry


def test_a_retry_goes_on_where_it_was() -> None:
    first = read({**GOOD, **OWN})
    waiting = first.attempted().attempted().unread().waiting_until(NOW + timedelta(seconds=4))
    state = RetryState.model_validate_json(RetryState(lookups=[waiting.state()]).model_dump_json())
    later = NOW + timedelta(minutes=5)
    [resumed] = reader().resume([first.sent], state, task_id="task", lane=Lane.INTERACTIVE, now=later)
    assert resumed == waiting
    assert (resumed.attempts, resumed.unreadable) == (2, 1)


def test_a_retry_keeps_the_place_in_the_first_list() -> None:
    state = LookupState(index=499, lookup_id="task:499", attempts=1, requested_at=NOW, deadline=NOW)
    [resumed] = reader().resume([GOOD], RetryState(lookups=[state]), task_id="task", lane=Lane.BULK, now=NOW)
    assert (resumed.index, resumed.lookup_id, resumed.deadline) == (499, "task:499", NOW)


@pytest.mark.parametrize(
    ("not_before", "deadline", "due"),
    [
        (None, 60, True),
        (0, 60, True),
        (1, 60, False),
        (1, 0, True),  # past its deadline there is nothing to wait for
    ],
)
def test_a_lookup_is_due_when_its_time_has_come_or_its_deadline_gone(
    not_before: int | None, deadline: int, due: bool
) -> None:
    lookup = read({**GOOD, "deadline": (NOW + timedelta(seconds=deadline)).isoformat()})
    if not_before is not None:
        lookup = lookup.waiting_until(NOW + timedelta(seconds=not_before))
    assert lookup.is_due(NOW) is due


def test_a_call_ends_the_wait_for_it() -> None:
    called = read(GOOD).waiting_until(NOW).attempted()
    assert (called.attempts, called.not_before) == (1, None)
