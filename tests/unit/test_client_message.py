"""What the client pushes, without Redis: checked, stamped, cut."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cardtoken.contract import MAX_REQUESTS, Lane, LookupRequest
from cardtoken.errors import InvalidRequestError
from cardtoken.message import MAX_ENTRY_BYTES, Cutter, Message, Request, checked_task_id, message_of, prepared
from cardtoken.providers import PROVIDERS, AfterpayRequest, OpayRequest, in_words
from tasks.broker.envelope import open_envelope

TOKEN = "OPAY_TOKEN_canary_4111111111111111"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
TASKS = frozenset({"lookup.opay", "lookup.afterpay"})
FIELDS = in_words((provider.reference_field for provider in PROVIDERS.values()), "and")


def sent(request: Request) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.text)
    return content


def requests_of(message: Message) -> list[Any]:
    return open_envelope(message.entry, TASKS, MAX_ENTRY_BYTES).requests


@pytest.mark.parametrize("given", [{"opay_token": TOKEN}, OpayRequest.model_validate({"opay_token": TOKEN})])
def test_fields_that_a_request_leaves_open_are_filled_in(given: Any) -> None:
    request = prepared(given, NOW, reply_to="till", deadline=NOW + timedelta(seconds=5))
    assert request.provider == "opay"
    assert sent(request) == {
        "opay_token": TOKEN,
        "requested_at": "2026-01-31T12:00:00Z",
        "reply_to": "till",
        "deadline": "2026-01-31T12:00:05Z",
    }


FULL = {
    "original_request_id": "request-1",
    "lookup_id": "mine",
    "account": "second",
    "reply_to": "own",
    "requested_at": "2026-01-30T12:00:00Z",
    "deadline": "2026-01-30T13:00:00Z",
    "metadata": {"order": "ü"},
}


@pytest.mark.parametrize("given", [FULL, AfterpayRequest.model_validate(FULL)])
def test_fields_that_a_request_sets_stay(given: Any) -> None:
    request = prepared(given, NOW, reply_to="till", deadline=NOW)
    assert (request.provider, request.lookup_id, request.reply_to) == ("afterpay", "mine", "own")
    assert sent(request) == FULL


def test_a_mapping_may_hold_times_and_nothing_where_it_says_nothing() -> None:
    request = prepared(
        {"opay_token": TOKEN, "requested_at": None, "deadline": NOW.astimezone(timezone(timedelta(hours=2)))}, NOW
    )
    assert sent(request)["deadline"] == "2026-01-31T12:00:00Z"
    assert sent(request)["requested_at"] == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"opay_token": TOKEN, "acount": "x"}, r"acount: there is no such field; did you mean account\?"),
        ({"opay_token": TOKEN, "order": "x"}, "order: there is no such field$"),
        ({"opay_token": TOKEN, TOKEN: 1}, "an unknown field: there is no such field"),
        ({"opay_tokn": TOKEN}, r"opay_tokn: there is no such field; did you mean opay_token\?"),
        (
            {"original-request-id": TOKEN},
            r"an unknown field: .*; did you mean original_request_id\?",
        ),
        ({TOKEN: "opay_token"}, f"exactly one of {FIELDS}; an unknown field"),
        ({"opay_token": TOKEN + "\n"}, "opay_token: Value error, must be printable"),
        ({"opay_token": ""}, "opay_token: Value error, must be 1 to 1024"),
        ({"opay_token": 5}, "opay_token: "),
        ({"opay_token": TOKEN, "lookup_id": TOKEN + " "}, "lookup_id: "),
        ({"opay_token": TOKEN, "reply_to": TOKEN + "/"}, "reply_to: "),
        ({"opay_token": TOKEN, "metadata": {TOKEN: 5}}, "metadata: "),
        ({"opay_token": TOKEN, "deadline": "2026-01-31T12:00:00"}, "deadline: Value error, must be an RFC 3339"),
        ({"opay_token": TOKEN, "original_request_id": TOKEN}, f"exactly one of {FIELDS}"),
        ({"token": TOKEN}, f"exactly one of {FIELDS}"),
        (TOKEN, "a model or a mapping, not str"),
        (LookupRequest(lookup_id="x"), "a request is one of OpayRequest, AfterpayRequest"),
    ],
)
def test_a_request_that_the_service_would_refuse_is_refused_without_being_shown(given: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as raised:
        prepared(given, NOW)
    assert isinstance(raised.value, ValueError)
    error: BaseException | None = raised.value
    while error is not None:
        assert TOKEN not in f"{error}{error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("task_id", ["", "a b", "x" * 121, "ä", "x\n"])
def test_a_task_id_has_to_be_fit_to_begin_a_lookup_id(task_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="task_id: must be 1 to 120"):
        checked_task_id(task_id)


def test_nothing_but_the_body_holds_a_card_token() -> None:
    request = prepared({"opay_token": TOKEN, "metadata": {"k": "confidential"}}, NOW)
    message = message_of([request], Lane.INTERACTIVE, "task-1")
    entry = json.loads(message.entry)
    assert entry["headers"]["kwargsrepr"] == "{'requests': '<1 lookup>'}"
    del entry["body"]
    shown = f"{entry}{message!r}{request!r}{[request]}"
    assert TOKEN not in shown
    assert "confidential" not in shown


def flow(count: int, **fields: Any) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {("opay_token", "original_request_id")[number % 2]: f"token-{number}", **fields}


def cut(requests: Iterator[dict[str, Any]], lane: Lane = Lane.BULK) -> list[Message]:
    cutter = Cutter(lane)
    messages = [message for each in requests if (message := cutter.add(prepared(each, NOW)))]
    return messages + cutter.rest()


def test_a_message_holds_one_providers_requests_and_500_at_most() -> None:
    messages = cut(flow(2403))
    assert [(message.queue, message.count) for message in messages] == [
        ("lookup.opay.bulk", MAX_REQUESTS),
        ("lookup.afterpay.bulk", MAX_REQUESTS),
        ("lookup.opay.bulk", MAX_REQUESTS),
        ("lookup.afterpay.bulk", MAX_REQUESTS),
        ("lookup.opay.bulk", 202),
        ("lookup.afterpay.bulk", 201),
    ]
    assert len({message.task_id for message in messages}) == len(messages)
    for provider, field in (("opay", "opay_token"), ("afterpay", "original_request_id")):
        found = [each[field] for m in messages if provider in m.queue for each in requests_of(m)]
        assert found == [f"token-{number}" for number in range(2403) if ("opay", "afterpay")[number % 2] == provider]


def test_a_message_stays_below_the_largest_entry_that_is_taken() -> None:
    largest = {"opay_token": "\U0001f4b3" * 1024, "metadata": {"k" * 8: "\x01" * 2040}, "lookup_id": "x" * 128}
    messages = cut(iter([largest] * 1100))
    assert sum(message.count for message in messages) == 1100
    assert all(len(message.entry) < MAX_ENTRY_BYTES for message in messages)
    assert max(len(message.entry) for message in messages) > MAX_ENTRY_BYTES * 0.95
    assert all(len(requests_of(message)) == message.count for message in messages)


def test_importing_the_package_alone_is_cheap_and_the_client_needs_no_celery() -> None:
    probe = (
        "import sys, cardtoken; print(sorted({'redis', 'pydantic'} & sys.modules.keys()));"
        "cardtoken.Client, cardtoken.AsyncClient;"
        "print(sorted({'celery', 'kombu', 'config', 'tasks'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n[]\n"
