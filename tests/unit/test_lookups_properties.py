"""Each element of any message's list becomes one lookup whose result can be published."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cardtoken.contract import Category, Lane, LookupId, LookupResult, QueueName
from cardtoken.providers import OpayRequest
from tasks.lookups.carried_state import LookupState
from tasks.lookups.lookup import Settled
from tasks.lookups.outcomes import Failure
from tasks.lookups.reader import RequestReader
from tasks.stores.results import result_of

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NAME = TypeAdapter(QueueName)
ID = TypeAdapter(LookupId)
READER = RequestReader(
    model=OpayRequest, deadlines={Lane.INTERACTIVE: 30.0, Lane.BULK: 3600.0}, result_queues=frozenset({"checkout"})
)

#: Every character that JSON can say, halves of surrogate pairs included.
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


def nested(content: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Return lists and objects of this content."""
    return st.lists(content, max_size=3) | st.dictionaries(TEXT, content, max_size=3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**301) | st.floats() | TEXT,
    nested,
    max_leaves=8,
)
VALID: Mapping[str, st.SearchStrategy[Any]] = {
    "opay_token": st.just("OPAY_TOKEN_bf8593c1693546ea"),
    "lookup_id": st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True),
    "account": st.just("emea"),
    "reply_to": st.sampled_from(["default", "checkout", "reply.1", "elsewhere"]),
    "requested_at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    "deadline": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    "metadata": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
}
MANDATORY = ("opay_token", "lookup_id")
ELEMENT = JSON | st.builds(
    lambda known, unknown: {**unknown, **known},
    st.fixed_dictionaries({}, optional={name: value | JSON for name, value in VALID.items()}),
    st.dictionaries(TEXT, JSON, max_size=1),
)


@given(st.lists(ELEMENT, max_size=5))
@example([{"\ud800": 1, "lookup_id": [1], "reply_to": {}, "metadata": {"a": "\ud800"}}])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_element_becomes_one_lookup_that_can_be_answered(requests: list[object]) -> None:
    lookups = READER.read(requests, task_id="task", lane=Lane.BULK, now=NOW)

    assert [lookup.index for lookup in lookups] == list(range(len(requests)))
    for lookup, sent in zip(lookups, requests, strict=True):
        assert lookup.sent is sent
        assert (lookup.request is None) is (lookup.fault is not None)
        assert 0 < len(lookup.fault or "valid") <= 500
        ID.validate_python(lookup.lookup_id, strict=True)
        NAME.validate_python(lookup.account, strict=True)
        NAME.validate_python(lookup.reply_to, strict=True)
        assert lookup.reply_to in {"default", "checkout"} or lookup.reply_to.startswith("reply.")
        failure = Failure(Category.INVALID_REQUEST, lookup.fault or "valid")
        result = result_of(Settled(lookup, failure, NOW), "task", "opay")
        assert LookupResult.from_json(result.to_json().encode()) == result
        assert LookupState.model_validate_json(lookup.state().model_dump_json()) == lookup.state()
        json.dumps(lookup.sent)


@given(
    st.fixed_dictionaries(
        {name: VALID[name] for name in MANDATORY},
        optional={name: value for name, value in VALID.items() if name not in MANDATORY},
    )
)
@settings(max_examples=100, deadline=None)
def test_a_request_within_every_bound_is_never_refused(request: dict[str, Any]) -> None:
    [lookup] = READER.read([request], task_id="task", lane=Lane.BULK, now=NOW)
    if request.get("reply_to") == "elsewhere":
        assert lookup.fault == "reply_to: not one of the result queues of this service"
    else:
        assert lookup.fault is None
    assert lookup.lookup_id == request["lookup_id"]
    assert lookup.metadata == request.get("metadata", {})
