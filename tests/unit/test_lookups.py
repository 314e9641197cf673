"""From the elements of a message to lookups: what is valid, and what the answer to the rest looks like."""

from datetime import UTC, datetime, timedelta

import pytest

from cardtoken.contract import Lane, LookupRequest
from cardtoken.providers import AfterpayRequest, OpayRequest
from tasks.lookups.lookup import Lookup
from tasks.lookups.reader import RequestReader

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
TOKEN = "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"
GOOD = {"opay_token": TOKEN}
#: Valid values of every optional field, none of them the default.
OWN = {
    "lookup_id": "order:1.a_b-C",
    "account": "emea",
    "reply_to": "reply.1",
    "requested_at": "2026-01-31T11:59:00Z",
    "metadata": {"order": "A-1"},
}


def read_all(requests: list[object], model: type[LookupRequest] = OpayRequest) -> list[Lookup]:
    reader = RequestReader(model=model, deadlines={Lane.INTERACTIVE: 30.0, Lane.BULK: 3600.0})
    return reader.read(requests, task_id="task", lane=Lane.BULK, now=NOW)


def read(sent: object, model: type[LookupRequest] = OpayRequest) -> Lookup:
    [lookup] = read_all([sent], model)
    return lookup


# --- what is valid


def test_the_least_that_can_be_sent_gets_every_default() -> None:
    lookup = read(GOOD)
    assert lookup.request is not None
    assert lookup.request.reference.get_secret_value() == TOKEN
    assert lookup == Lookup(
        index=0,
        lookup_id="task:0",
        account="default",
        reply_to="default",
        requested_at=NOW,
        deadline=NOW + timedelta(hours=1),
        metadata={},
        sent=GOOD,
        request=lookup.request,
    )


def test_a_producers_own_values_are_kept() -> None:
    lookup = read({**GOOD, **OWN, "deadline": "2026-01-31T12:00:05+00:00"})
    assert (lookup.lookup_id, lookup.account, lookup.reply_to) == ("order:1.a_b-C", "emea", "reply.1")
    assert lookup.requested_at == NOW - timedelta(minutes=1)
    assert lookup.deadline == NOW + timedelta(seconds=5)
    assert lookup.metadata == {"order": "A-1"}
    assert lookup.fault is None


def test_elements_are_counted_from_0_and_one_bad_one_spoils_no_other() -> None:
    lookups = read_all([GOOD, None, GOOD])
    assert [lookup.lookup_id for lookup in lookups] == ["task:0", "task:1", "task:2"]
    assert [lookup.index for lookup in lookups] == [0, 1, 2]
    assert [lookup.request is None for lookup in lookups] == [False, True, False]


def test_the_same_lookup_id_twice_is_two_lookups() -> None:
    twice: list[object] = [{**GOOD, "lookup_id": "same"}] * 2
    lookups = read_all(twice)
    assert [(lookup.index, lookup.lookup_id) for lookup in lookups] == [(0, "same"), (1, "same")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("opay_token", "x"),
        ("opay_token", "x" * 1024),
        ("opay_token", "ünïcödé ✓"),
        ("lookup_id", "x"),
        ("lookup_id", "AZaz09._:-" + "x" * 118),
        ("account", "AZaz09._-" + "x" * 55),
        ("reply_to", "x" * 64),
        ("reply_to", "reply."),
        ("requested_at", "2026-01-31T12:00:00.123456789Z"),
        ("requested_at", "2026-01-31t12:00:00z"),  # RFC 3339 allows small letters
        ("requested_at", "2026-01-31 12:00:00-00:00"),  # and a blank
        ("deadline", "9999-12-31T23:59:59Z"),
        ("deadline", "0001-01-01T00:00:00Z"),
        ("metadata", {}),
        ("metadata", {str(i): "" for i in range(16)}),
        ("metadata", {"k": "v" * 2047}),
        ("metadata", {"": "é" * 1024}),
    ],
)
def test_a_field_within_its_bounds_is_valid(field: str, value: object) -> None:
    assert read({**GOOD, field: value}).fault is None


# --- what is not


INVALID = [
    ("opay_token", ""),
    ("opay_token", "x" * 1025),
    ("opay_token", 5),
    ("opay_token", True),
    ("opay_token", [TOKEN]),
    ("opay_token", {"a": TOKEN}),
    ("opay_token", "half \ud800 pair"),
    ("opay_token", "two\nlines"),
    ("lookup_id", ""),
    ("lookup_id", "x" * 129),
    ("lookup_id", "a b"),
    ("lookup_id", "a\n"),  # a line break at the end is no end
    ("lookup_id", "ü"),
    ("lookup_id", "\ud800"),
    ("lookup_id", 5),
    ("lookup_id", []),
    ("account", ""),
    ("account", "x" * 65),
    ("account", "a:b"),
    ("account", "a\n"),
    ("account", {"name": "default"}),
    ("reply_to", ""),
    ("reply_to", "x" * 65),
    ("reply_to", "a:b"),
    ("reply_to", "reply.\n"),
    ("reply_to", 1.5),
    ("reply_to", ["default"]),
    ("requested_at", "2026-01-31T12:00:00"),  # no offset
    ("requested_at", "2026-01-31"),
    ("requested_at", "2026-02-30T12:00:00Z"),  # a day that no month has
    ("requested_at", "2026-01-31T12:00:00+99:99"),
    ("requested_at", "20260131T120000Z"),  # ISO 8601, but not RFC 3339
    ("requested_at", "0001-01-01T00:00:00+23:59"),  # before the calendar begins
    ("requested_at", "٢٠٢٦-01-31T12:00:00Z"),
    ("requested_at", 1767225600),
    ("requested_at", 10**400),
    ("deadline", "tomorrow"),
    ("deadline", ["2026-01-31T12:00:00Z"]),
    ("deadline", False),
    ("metadata", []),
    ("metadata", "order"),
    ("metadata", {"a": 1}),
    ("metadata", {"a": None}),
    ("metadata", {"a": {"b": "c"}}),
    ("metadata", {str(i): "" for i in range(17)}),
    ("metadata", {"k": "v" * 2048}),
    ("metadata", {"k": "é" * 1024}),  # 2,049 bytes
    ("metadata", {"\ud800": "a"}),
    ("metadata", {"a": "\ud800"}),
]


@pytest.mark.parametrize(("field", "value"), INVALID, ids=[f"{field}-{i}" for i, (field, _) in enumerate(INVALID)])
def test_one_bad_field_is_named_and_the_others_still_find_their_asker(field: str, value: object) -> None:
    lookup = read({**GOOD, **OWN, field: value})
    assert lookup.request is None
    assert lookup.fault is not None
    assert lookup.fault.startswith(f"{field}: ")
    defaults = {
        "lookup_id": "task:0",
        "account": "default",
        "reply_to": "default",
        "requested_at": NOW,
        "metadata": {},
    }
    own = {**OWN, "requested_at": NOW - timedelta(minutes=1)}
    for name, default in defaults.items():
        assert getattr(lookup, name) == (default if name == field else own[name])


@pytest.mark.parametrize("field", ["opay_token", "deadline", *OWN])
def test_null_is_of_no_fields_type(field: str) -> None:
    lookup = read({**GOOD, **OWN, field: None})
    assert lookup.request is None
    assert lookup.fault == f"{field}: must not be null"


@pytest.mark.parametrize("sent", [None, True, 5, 1.5, TOKEN, [GOOD], [], "\ud800"])
def test_an_element_that_is_no_object_is_answered_under_the_defaults(sent: object) -> None:
    lookup = read(sent)
    assert lookup.request is None
    assert lookup.fault == "the request is not an object"
    assert (lookup.lookup_id, lookup.reply_to, lookup.deadline) == ("task:0", "default", NOW + timedelta(hours=1))
    assert lookup.sent is sent


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("amount", "amount"),  # a name that may be shown
        ("original_request_id", "original_request_id"),  # the other provider's
        ("4111111111111111", "an unknown field"),  # free text, which may hold anything
        ("a b", "an unknown field"),
        ("", "an unknown field"),
        ("x" * 41, "an unknown field"),
        ("ünïcödé", "an unknown field"),
        ("\ud800", "an unknown field"),  # half of a surrogate pair
    ],
)
@pytest.mark.parametrize("value", ["x", None])
def test_an_unknown_field_is_refused_and_shown_only_if_it_is_a_name(name: str, shown: str, value: object) -> None:
    lookup = read({**GOOD, **OWN, name: value})
    assert lookup.request is None
    assert lookup.fault is not None
    assert lookup.fault.startswith(f"{shown}: ")
    assert shown == name or not name or name not in lookup.fault
    assert (lookup.lookup_id, lookup.reply_to) == ("order:1.a_b-C", "reply.1")


@pytest.mark.parametrize("odd", ["\ud800", "ünïcödé"])
def test_an_odd_name_hides_nothing_that_is_wrong_with_the_other_fields(odd: str) -> None:
    lookup = read({odd: 1, "opay_token": 5, "lookup_id": [], "reply_to": {}, "requested_at": 5, "metadata": "x"})
    assert lookup.fault is not None
    for field in ("opay_token", "lookup_id", "reply_to", "requested_at", "metadata"):
        assert f"{field}: " in lookup.fault
    assert (lookup.lookup_id, lookup.reply_to, lookup.metadata) == ("task:0", "default", {})


def test_a_fault_quotes_nothing_and_fits_into_a_result() -> None:
    canary = "canary-4111111111111111"
    sent = {**{name: [canary] for name in OWN}, "opay_token": {canary: 1}, "deadline": canary, canary: canary}
    lookup = read({**sent, **{f"{canary}{i}": 1 for i in range(100)}})
    assert lookup.fault is not None
    assert "canary" not in lookup.fault
    assert len(lookup.fault) <= 500
    assert "canary" not in repr(lookup)


def test_the_reference_is_the_providers_own() -> None:
    assert read({"original_request_id": "8456"}, model=AfterpayRequest).fault is None
    assert "original_request_id" in str(read(GOOD, model=AfterpayRequest).fault)


def test_an_unknown_field_is_named_with_the_nearest_right_one() -> None:
    assert read({"opay_tokn": TOKEN}).fault == (
        "opay_token: Field required; opay_tokn: there is no such field; did you mean opay_token?"
    )
    assert read({**GOOD, "metdata": {}}).fault == "metdata: there is no such field; did you mean metadata?"
    assert read({**GOOD, TOKEN: "x"}).fault == "an unknown field: there is no such field"
