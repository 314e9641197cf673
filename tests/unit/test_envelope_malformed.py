"""A queue entry that is no message: refused, for a reason that says nothing of what is in it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.broker.envelope import MalformedError
from tasks.broker.intake import canonical
from tests.unit.messages import (
    CANARY,
    GOOD,
    LIMIT,
    body,
    claim_of,
    message,
    opened,
    protocol_1,
    with_headers,
    with_properties,
)

OTHER_TASK = {"task": "lookup.opay", "args": [], "kwargs": {"requests": [GOOD]}, "options": {}}
ODD: list[Any] = [5, 1.5, True, CANARY, "", [], [CANARY], {}, {"a": CANARY}, "\ud800", 10**400]


def refusal(entry: object, limit: int = LIMIT) -> str:
    with pytest.raises(MalformedError) as caught:
        opened(entry, limit)
    reason = str(caught.value)
    assert 0 < len(reason) < 100
    assert "canary" not in reason
    return reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"lookup me up",
        b"\x80\x04\x95\x0b",  # pickle
        b'{"body": "\xff\xfe"}',
        b"\xef\xbb\xbf{}",  # a byte order mark
        "{}".encode("utf-16"),
        b"null",
        b"[]",
        b'"' + CANARY.encode() + b'"',
        b'{"body": "cut o',
        b'{"body": NaN}',
        pytest.param(b"[" * 200_000, id="lists without end"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="objects without end"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="5000 digits"),
    ],
)
def test_an_entry_that_is_not_a_json_object_is_refused(raw: bytes) -> None:
    assert refusal(raw).startswith("the entry is not ")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000, "NaN", "Infinity", "-Infinity"])
def test_a_number_that_could_not_be_written_again_is_refused(number: str) -> None:
    assert refusal(message(body({"requests": [{"n": 0}]}).replace("0", number))) == "the body is not JSON"


@pytest.mark.parametrize(
    "content_type",
    [..., None, "application/x-python-serialize", "application/x-yaml", "application/jsonp", "text/plain", *ODD],
)
def test_a_content_type_other_than_json_is_refused(content_type: object) -> None:
    assert refusal(message(**{"content-type": content_type})) == "a content type other than JSON"


@pytest.mark.parametrize("coding", [5, True, [1], {"a": 1}])
def test_a_content_encoding_that_is_not_text_is_refused(coding: object) -> None:
    assert refusal(message(**{"content-encoding": coding})) == "a content encoding that is not text"


@pytest.mark.parametrize("value", [..., None, 5, True, [], {}, ["x"]])
def test_an_entry_without_a_body_is_refused(value: object) -> None:
    assert refusal(message(body=value)) == "no body"


@pytest.mark.parametrize(
    "text",
    [
        "%%%",
        "eyJh",  # base64, but not of JSON
        "=",
        "ünïcödé",
        "\ud800",
        body(),  # not packed, though it is said to be
    ],
)
def test_a_body_that_is_not_what_it_is_said_to_be_is_refused(text: str) -> None:
    assert refusal(message(body=text)) in {"the body is not base64", "the body is not JSON", "the body is not UTF-8"}


@pytest.mark.parametrize("encoding", ["hex", "BASE64", 5, [], {}, True])
def test_an_unknown_body_encoding_is_refused(encoding: object) -> None:
    assert refusal(with_properties(body_encoding=encoding)) == "an unknown body encoding"


@pytest.mark.parametrize("name", ["headers", "properties"])
@pytest.mark.parametrize("value", [5, True, CANARY, [1]])
def test_headers_and_properties_are_objects(name: str, value: object) -> None:
    assert refusal(message(**{name: value})) == f"{name} is not an object"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"lookup me up",
        b"\xff\xfe",
        b"null",
        b"5",
        b'"' + CANARY.encode() + b'"',
        b"[]",
        b"[[]]",
        b"[[], {}]",
        b"[[], {}, {}, {}]",
        b'[[], {"requests": [NaN]}, {}]',
        b'[[], {"requests": [-Infinity]}, {}]',
        pytest.param(b'[[], {"requests": [' + b"9" * 5000 + b"]}, {}]", id="5000 digits"),
        pytest.param(b'[[], {"requests": [' + b"[" * 100_000, id="lists without end"),
    ],
)
def test_a_body_that_is_no_call_is_refused(text: bytes) -> None:
    assert refusal(message(text)).startswith(("the body is not ", "no task"))


@pytest.mark.parametrize("depth", [32, 200, 900, 960, 985])
def test_arguments_nested_too_deep_to_be_written_again_are_refused(depth: int) -> None:
    text = body({"requests": [{"opay_token": "HERE"}]}).replace('"HERE"', "[" * depth + "]" * depth)
    reason = refusal(message(text))
    assert reason in {"kwargs are nested too deep", "the body is not JSON"}


@pytest.mark.parametrize("depth", [1, 5, 25])
def test_a_request_nested_moderately_is_left_to_its_own_lookup(depth: int) -> None:
    deep: Any = GOOD
    for _ in range(depth):
        deep = {"a": deep}
    assert opened(message(body({"requests": [deep]}))).requests == [deep]


@pytest.mark.parametrize("value", [..., None, 5, True, [], {}, [CANARY]])
@pytest.mark.parametrize("name", ["task", "id"])
def test_a_message_has_a_task_and_an_id(name: str, value: object) -> None:
    assert refusal(with_headers(**{name: value})) == "no task or no id"
    assert refusal(protocol_1(**{name: value})) == "no task or no id"


@pytest.mark.parametrize("value", ["", "x" * 256, "a\nb", "a\x00", "\ud800", "a\u2028b", "\u202e"])
def test_an_id_that_cannot_be_shown_is_refused(value: str) -> None:
    assert refusal(with_headers(id=value)) == "an id that is empty, too long or not printable"
    assert refusal(protocol_1(id=value)) == "an id that is empty, too long or not printable"


@pytest.mark.parametrize("task", ["", "lookup", "lookup.visa", "celery.ping", "celery.map", "celery.chord", CANARY])
def test_a_task_of_another_service_is_refused(task: str) -> None:
    assert refusal(with_headers(task=task)) == "a task that is not of this service"
    assert refusal(protocol_1(task=task)) == "a task that is not of this service"


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
@pytest.mark.parametrize("value", [[OTHER_TASK], OTHER_TASK, CANARY, 1])
def test_links_chains_and_chords_are_refused(name: str, value: object) -> None:
    assert refusal(message(body(embed={name: value}))) == "links, chains and chords are not taken"
    assert refusal(protocol_1(**{name: value})) == "links, chains and chords are not taken"


@pytest.mark.parametrize("embed", [5, True, CANARY, [1]])
def test_an_embed_that_is_not_an_object_is_refused(embed: object) -> None:
    assert refusal(message(body(embed=embed))) == "embed is not an object"


@pytest.mark.parametrize("args", [[[GOOD]], [None], {"a": 1}, "x", 5, True])
def test_positional_arguments_are_refused(args: object) -> None:
    assert refusal(message(body(args=args))) == "positional arguments"
    assert refusal(protocol_1(args=args)) == "positional arguments"


@pytest.mark.parametrize("kwargs", [5, True, CANARY, [GOOD], [["requests", [GOOD]]]])
def test_kwargs_are_an_object(kwargs: object) -> None:
    assert refusal(message(body(kwargs))) == "kwargs is not an object"
    assert refusal(protocol_1(kwargs=kwargs)) == "kwargs is not an object"
    assert refusal(protocol_1(kwargs=...)) == "kwargs is not an object"
    assert refusal(message("[[], null, {}]")) == "kwargs is not an object"


@pytest.mark.parametrize(
    "kwargs", [{}, {"request": [GOOD]}, {"requests": [GOOD], "x": 1}, {"requests": [GOOD], "\ud800": 1}]
)
def test_kwargs_are_exactly_requests(kwargs: dict[str, object]) -> None:
    assert refusal(message(body(kwargs))) == "kwargs are not exactly requests"
    assert refusal(with_headers(body(kwargs), retries=1)) == "kwargs are not exactly requests"


@pytest.mark.parametrize("requests", [None, 5, True, CANARY, {}, GOOD, []])
def test_requests_are_a_list_that_is_not_empty(requests: object) -> None:
    assert refusal(message(body({"requests": requests}))) == "requests is not a list of 1 to 500"
    assert refusal(protocol_1(kwargs={"requests": requests})) == "requests is not a list of 1 to 500"


def test_a_list_of_more_than_500_is_refused() -> None:
    assert refusal(message(body({"requests": [GOOD] * 501}))) == "requests is not a list of 1 to 500"


@pytest.mark.parametrize("retries", [-1, 1.5, 1.0, "1", True, [], {}, 1 << 31, 10**400])
def test_retries_are_a_whole_number(retries: object) -> None:
    assert refusal(with_headers(retries=retries)) == "retries is not a whole number"
    assert refusal(protocol_1(retries=retries)) == "retries is not a whole number"


@pytest.mark.parametrize(
    "time",
    [
        "soon",
        "12:00",
        "1",
        "2026-02-30",
        "2026-01-31T25:00",
        "٢٠٢٦-01-31",
        "0001-01-01T00:00+23:59",
        *filter(None, ODD),
    ],
)
@pytest.mark.parametrize("name", ["eta", "expires"])
def test_eta_and_expires_are_times(name: str, time: object) -> None:
    assert refusal(with_headers(**{name: time})) == f"{name} is not a time"
    assert refusal(protocol_1(**{name: time})) == f"{name} is not a time"


# --- random entries


TEXT = st.text(st.characters(exclude_categories=()), max_size=12)


def nested(content: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Return lists and objects of this content."""
    return st.lists(content, max_size=3) | st.dictionaries(TEXT, content, max_size=3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    nested,
    max_leaves=8,
)
within = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def open_or_refuse(raw: bytes) -> None:
    """Envelope or MalformedError, nothing else; and an envelope can be handed on."""
    envelope, reason = None, "none"
    try:
        envelope = opened(raw)
    except MalformedError as refused:
        reason = str(refused)
    assert 0 < len(reason) < 100
    assert "canary" not in reason
    if envelope is None:
        return
    assert "canary" not in repr(envelope)
    handed_on = canonical(envelope, claim_of(raw), datetime.now(UTC))
    assert handed_on["body"][1]["requests"] == envelope.requests
    json.dumps(handed_on)


@given(
    st.binary() | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | JSON.map(json.dumps).map(str.encode)
)
@within
def test_no_bytes_are_too_odd(raw: bytes) -> None:
    open_or_refuse(raw)


@given(data=st.data())
@within
def test_a_message_with_anything_changed_is_opened_or_refused(data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from([message(), protocol_1(), message(body=body(), properties={})]))
    place = data.draw(st.sampled_from([entry, entry["headers"], entry.get("properties", {})]))
    place[data.draw(st.sampled_from([*place, "headers", "compression", "task", "retries"]))] = data.draw(JSON)
    open_or_refuse(json.dumps(entry).encode())


@given(call=st.lists(JSON, max_size=4) | st.tuples(JSON, st.fixed_dictionaries({"requests": JSON}), JSON), retries=JSON)
@example(call=([], {"requests": [GOOD]}, {}), retries=None)
@within
def test_a_body_with_anything_in_it_is_opened_or_refused(call: object, retries: object) -> None:
    open_or_refuse(json.dumps(with_headers(json.dumps(call), retries=retries)).encode())


@given(st.data(), st.binary(min_size=1, max_size=4))
@within
def test_a_message_with_bytes_overwritten_is_opened_or_refused(data: st.DataObject, noise: bytes) -> None:
    raw = json.dumps(message(body=body(), properties={})).encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    open_or_refuse(raw[:at] + noise + raw[at + data.draw(st.integers(0, 8)) :])
