"""The wire models: what producers send and what consumers read."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from cardtoken.contract import (
    Brand,
    Category,
    Customer,
    Funding,
    LookupFailure,
    LookupRequest,
    LookupResult,
    Status,
    TokenRecord,
)
from cardtoken.keys import stream_name
from cardtoken.providers import AfterpayRequest, OpayRequest
from cardtoken.secret import CardToken

TOKEN = "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"

#: A result as consumers in other languages read it, every field in its place.
FOUND = """
{
  "schema_version": 1,
  "lookup_id": "order-1", "task_id": "6a1b", "provider": "opay", "account": "default",
  "status": "found",
  "token": {
    "value": "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5",
    "brand": "visa", "brand_raw": "VISA",
    "first6": "450875", "last4": "7411",
    "exp_month": 2, "exp_year": 2026,
    "funding": null, "product": null, "issuer": null, "country": null,
    "credit_limit": null,
    "created_at": "2021-11-25T06:45:53Z",
    "customer": {"id": "121111113", "name": "name1", "email": "123@1231.com", "phone": "20123111111"},
    "transaction_id": null, "receipt_id": null
  },
  "error": null,
  "attempts": 1,
  "requested_at": "2026-01-31T12:00:00Z", "completed_at": "2026-01-31T12:00:00.250000Z",
  "replay_of": null,
  "metadata": {}
}
"""
RESULT = LookupResult(
    lookup_id="order-1",
    task_id="6a1b",
    provider="opay",
    account="default",
    status=Status.FOUND,
    token=TokenRecord(
        value=CardToken(TOKEN),
        brand="visa",
        brand_raw="VISA",
        first6="450875",
        last4="7411",
        exp_month=2,
        exp_year=2026,
        created_at=datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC),
        customer=Customer(id="121111113", name="name1", email="123@1231.com", phone="20123111111"),
    ),
    attempts=1,
    requested_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
    completed_at=datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC),
)


BRANDS = "visa mastercard amex diners discover jcb unionpay maestro verve meeza mada eftpos_au rupay elo troy unknown"
CATEGORIES = "timeout unavailable rate_limited authentication invalid_request rejected protocol expired internal"


# --- results


def test_the_documented_result_is_written_field_for_field() -> None:
    assert json.loads(RESULT.to_json()) == json.loads(FOUND)
    assert list(json.loads(RESULT.to_json())) == list(json.loads(FOUND))


def test_the_documented_result_is_read_back_whole() -> None:
    assert LookupResult.from_json(FOUND) == RESULT
    assert LookupResult.from_json(FOUND.encode()) == RESULT
    token = LookupResult.from_json(FOUND).token
    assert token is not None
    assert token.value.get_secret_value() == TOKEN


@pytest.mark.parametrize("category", [*Category])
def test_a_failure_comes_back_as_it_was_written(category: Category) -> None:
    error = LookupFailure(category=category, code="09", message="time out", http_status=200, retryable=True)
    result = RESULT.model_copy(update={"status": Status.FAILED, "token": None, "error": error})
    content = json.loads(result.to_json())
    assert content["error"] == {
        "category": category.value,
        "code": "09",
        "message": "time out",
        "http_status": 200,
        "retryable": True,
    }
    assert (content["status"], content["token"]) == ("failed", None)
    assert LookupResult.from_json(result.to_json()) == result


def test_not_found_has_neither_token_nor_error() -> None:
    result = RESULT.model_copy(update={"status": Status.NOT_FOUND, "token": None})
    content = json.loads(result.to_json())
    assert (content["status"], content["token"], content["error"]) == ("not_found", None, None)


def with_changes(**changes: Any) -> str:
    return json.dumps({**json.loads(FOUND), **changes})


def test_an_older_reader_passes_over_what_a_newer_writer_added() -> None:
    token = {**json.loads(FOUND)["token"], "wallet": "w", "customer": {"id": "1", "tier": "gold"}}
    result = LookupResult.from_json(with_changes(region="eu", token=token))
    assert result.token is not None
    assert result.token.customer == Customer(id="1")
    error = {"category": "haunted", "message": "words", "retryable": False, "ghost": True}
    failed = LookupResult.from_json(with_changes(status="failed", token=None, error=error))
    assert failed.error is not None
    assert failed.error.category == "haunted"


def test_a_brand_or_a_funding_that_is_not_known_yet_is_read() -> None:
    token = {**json.loads(FOUND)["token"], "brand": "newcard", "funding": "barter"}
    read = LookupResult.from_json(with_changes(token=token)).token
    assert read is not None
    assert (read.brand, read.funding) == ("newcard", "barter")


def test_a_newer_reader_does_without_what_an_older_writer_left_out() -> None:
    content = json.loads(FOUND)
    for name in ("schema_version", "token", "error", "replay_of", "metadata"):
        content.pop(name)
    result = LookupResult.from_json(json.dumps(content))
    assert (result.schema_version, result.token, result.metadata) == (1, None, {})


@pytest.mark.parametrize(
    "data",
    [
        "",
        "null",
        "[]",
        '{"lookup_id": "canary-4111111111111111"',  # cut off
        with_changes(status="maybe canary"),
        with_changes(requested_at="canary"),
        with_changes(attempts="canary"),
        with_changes(token={"value": None, "brand": "canary"}),
        with_changes(error={"category": "canary", "message": "canary" * 100, "retryable": True}),
    ],
)
def test_a_document_that_is_not_a_result_is_refused_without_being_quoted(data: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LookupResult.from_json(data)
    shown = f"{caught.value} {caught.value!r}"
    assert "canary" not in shown
    assert TOKEN not in shown


def test_a_failures_message_is_no_longer_than_500_characters() -> None:
    assert LookupFailure(category="timeout", message="m" * 500, retryable=True)
    with pytest.raises(ValidationError):
        LookupFailure(category="timeout", message="m" * 501, retryable=True)


def test_a_result_queue_is_a_stream_of_that_name() -> None:
    assert stream_name("default") == "token-records:default"


# --- words


def test_the_words_of_the_contract_are_these() -> None:
    assert {*Status} == {"found", "not_found", "failed"}
    assert {*Funding} == {"credit", "debit", "prepaid", "unknown"}
    assert list(Brand) == BRANDS.split()
    assert list(Category) == CATEGORIES.split()


def test_only_what_may_pass_by_itself_is_retryable() -> None:
    assert {category for category in Category if category.retryable} == {
        Category.TIMEOUT,
        Category.UNAVAILABLE,
        Category.RATE_LIMITED,
        Category.EXPIRED,
    }


def test_only_a_failure_that_no_operator_can_act_on_is_not_a_dead_letter() -> None:
    assert {category for category in Category if not category.actionable} == {
        Category.EXPIRED,
        Category.INVALID_REQUEST,
    }


# --- requests


@pytest.mark.parametrize(("model", "field"), [(OpayRequest, "opay_token"), (AfterpayRequest, "original_request_id")])
def test_a_request_is_sent_as_the_contract_has_it(model: type[LookupRequest], field: str) -> None:
    sent = {
        field: TOKEN,
        "lookup_id": "order-1",
        "account": "emea",
        "reply_to": "checkout",
        "requested_at": "2026-01-31T12:00:00Z",
        "deadline": "2026-01-31T12:00:05Z",
        "metadata": {"order": "A-1"},
    }
    request = model.model_validate(sent)
    assert request.to_wire() == sent
    assert model.model_validate(request.to_wire()) == request
    assert request.reference == CardToken(TOKEN)


def test_fields_that_a_producer_leaves_out_are_not_sent() -> None:
    assert OpayRequest(opay_token=CardToken(TOKEN)).to_wire() == {"opay_token": TOKEN}


def test_a_request_without_a_provider_has_no_reference() -> None:
    with pytest.raises(TypeError, match="LookupRequest"):
        _ = LookupRequest().reference
