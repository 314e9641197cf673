"""Values that cannot be printed, and models that do not print what they hold."""

import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from cardtoken.contract import Customer, LookupRequest, LookupResult, Status, TokenRecord
from cardtoken.providers import AfterpayRequest, OpayRequest
from cardtoken.secret import CardToken, Secret
from config import celeryconfig

KEY = "OPAYPRV16160617080050.388604510744898"
TOKEN = "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CUSTOMER = Customer(id="121111113", name="Jo Bloggs", email="jo@example.com", phone="20123111111")


class Holder(BaseModel):
    held: Secret | CardToken


def formatted(value: object) -> str:
    return f"{value} {value!s} {value!r}"


def by_percent(value: object) -> str:
    return "%s %r" % (value, value)  # noqa: UP031 - the way in question


def by_format(value: object) -> str:
    return "{} {!r}".format(value, value)  # noqa: UP032 - the way in question


def within(value: object) -> str:
    return f"{[value]} {(value,)} { {'a': value} }"


def logged(value: object) -> str:
    return logging.LogRecord("n", logging.INFO, "p", 1, "%s %r", (value, value), None).getMessage()


def raised(value: object) -> str:
    error = ValueError(value)
    return "".join(traceback.format_exception(error)) + repr(error)


def dumped(value: Secret | CardToken) -> str:
    holder = Holder(held=value)
    return f"{holder} {holder.model_dump()} {holder.model_dump(mode='json')} {holder.model_dump_json()}"


WAYS: list[Callable[[Secret | CardToken], str]] = [formatted, by_percent, by_format, within, logged, raised, dumped]


@pytest.mark.parametrize("show", WAYS)
def test_nothing_of_a_secret_is_shown(show: Callable[[Secret | CardToken], str]) -> None:
    shown = show(Secret(KEY))
    assert not any(KEY[i : i + 4] in shown for i in range(len(KEY) - 3))
    assert "***" in shown


@pytest.mark.parametrize("show", WAYS)
def test_at_most_the_last_four_characters_of_a_card_token_are_shown(show: Callable[[Secret | CardToken], str]) -> None:
    shown = show(CardToken(TOKEN))
    assert "****5bf5" in shown
    assert TOKEN[-5:] not in shown
    assert "OPAY" not in shown


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("", "****"),
        ("abcd", "****"),  # four characters are the whole of it
        ("abcdefghijk", "****"),  # of so few they are too many
        ("abcdefghijkl", "****ijkl"),
        (TOKEN, "****5bf5"),
    ],
)
def test_a_short_card_token_shows_nothing_at_all(token: str, shown: str) -> None:
    assert str(CardToken(token)) == shown


def test_the_text_is_there_for_code_that_asks_for_it() -> None:
    assert Secret(KEY).get_secret_value() == KEY
    assert CardToken(TOKEN).get_secret_value() == TOKEN


def test_values_are_compared_by_what_they_hold() -> None:
    assert CardToken(TOKEN) == CardToken(TOKEN)
    assert CardToken(TOKEN) != CardToken(TOKEN[:-1])
    assert len({Secret(KEY), Secret(KEY)}) == 1


@pytest.mark.parametrize("kind", [Secret, CardToken])
def test_json_cannot_take_one_by_accident(kind: type[Secret]) -> None:
    with pytest.raises(TypeError) as caught:
        json.dumps({"key": kind(KEY)})
    assert KEY not in str(caught.value)


def test_nothing_is_pickled_on_its_way_through_celery() -> None:
    written = " ".join([*celeryconfig.accept_content, celeryconfig.task_serializer, celeryconfig.result_serializer])
    assert "pickle" not in written
    assert all("json" in content for content in celeryconfig.accept_content)


# --- models


@pytest.mark.parametrize(("model", "field"), [(OpayRequest, "opay_token"), (AfterpayRequest, "original_request_id")])
def test_a_request_shows_neither_its_reference_nor_its_metadata(model: type[LookupRequest], field: str) -> None:
    request = model.model_validate({field: TOKEN, "metadata": {"order": "canary"}})
    shown = formatted(request) + within(request) + logged(request)
    assert TOKEN not in shown
    assert "canary" not in shown
    assert "****5bf5" in shown
    assert TOKEN not in request.model_dump_json()
    assert TOKEN not in f"{request.model_dump()} {request.model_dump(mode='json')}"


@pytest.mark.parametrize("context", [None, {}, {"wire": False}, {"wire": True, "more": 1}, "wire"])
def test_a_card_token_is_written_in_full_for_the_wire_alone(context: Any) -> None:
    request = OpayRequest(opay_token=CardToken(TOKEN))
    assert TOKEN not in request.model_dump_json(context=context)
    assert TOKEN in json.dumps(request.to_wire())


def test_a_record_shows_nothing_of_the_card_holder() -> None:
    record = TokenRecord(
        value=CardToken(TOKEN), first6="450875", last4="7411", credit_limit="98765", customer=CUSTOMER, created_at=NOW
    )
    result = LookupResult(
        lookup_id="order-1",
        task_id="t",
        provider="opay",
        account="default",
        status=Status.FOUND,
        token=record,
        attempts=1,
        requested_at=NOW,
        completed_at=NOW,
        metadata={"order": "canary"},
    )
    for value in (record, result, CUSTOMER):
        shown = formatted(value) + within(value) + logged(value) + raised(value)
        for personal in (TOKEN, "450875", "98765", "Jo Bloggs", "jo@example.com", "20123111111", "121111113", "canary"):
            assert personal not in shown
    assert TOKEN not in result.model_dump_json()
    assert TOKEN in result.to_json()


@pytest.mark.parametrize(
    "content",
    [
        {"opay_token": TOKEN, "lookup_id": "a canary"},
        {"opay_token": TOKEN, "deadline": "canary"},
        {"opay_token": [TOKEN]},
        {"opay_token": TOKEN * 100},
        {"opay_token": f"{TOKEN}\n"},
        {"opay_token": TOKEN, "metadata": {"order": ["canary"]}},
        {"opay_token": TOKEN, "amount": "canary"},
    ],
)
def test_a_request_that_is_refused_is_not_quoted(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        OpayRequest.model_validate(content)
    shown = f"{caught.value} {caught.value!r} {raised(caught.value)}"
    assert TOKEN not in shown
    assert "canary" not in shown


@pytest.mark.parametrize("kind", [Secret, CardToken])
def test_a_schema_says_password_and_holds_no_value(kind: type[Secret]) -> None:
    schema = TypeAdapter(kind).json_schema()
    assert schema["format"] == "password"
    assert schema["writeOnly"] is True
