"""Afterpay's adapter: what is sent, and what a success becomes."""

import json
import platform
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from cardtoken.contract import Brand, Category, Funding, TokenRecord
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpResponse
from tasks.lookups.outcomes import Failure, Found
from tasks.providers import PROVIDERS, afterpay
from tasks.providers.afterpay import AfterpayAccount, build, parse
from tasks.providers.provider import Query

REFERENCE = "8456732415666565656565656565656"
REQUEST_ID = "8456732415666565656565656565657"

#: The page's sample, as it stands there.
SUCCESS = """
{
"id": "13e753e2e4a4b2f692b573e5fbe98b7b5523586a",
"receiptId": "32432",
"token": "6966af4975984c30ae2e2c18985bc21c",
"last4Digits": "1111",
"creditLimit": 123,
"cardBrand": "VISA",
"cardType": "DEBIT",
"cardSubType": "pre-paid giftcard",
"issuingBank": "Commonwealth Bank of Australia",
"country":"AU"
}"""
MANDATORY = {"id": "1", "receiptId": "2", "token": "6966af4975984c30ae2e2c18985bc21c", "last4Digits": "1111"}


def query(reference: str = REFERENCE, **account: Any) -> Query[AfterpayAccount]:
    return Query(
        CardToken(reference),
        AfterpayAccount(**{"client_id": "afterpay", "client_secret": "merchantABC", **account}),
        REQUEST_ID,
        Secret("eyJhbGciOiJIUzI1NiJ9.access.token"),
    )


def record(**changes: Any) -> TokenRecord:
    """The record of the page's sample with fields changed; one that becomes ``...`` is left out."""
    content = {name: value for name, value in {**json.loads(SUCCESS), **changes}.items() if value is not ...}
    outcome = parse(HttpResponse(200, {}, json.dumps(content).encode()), query())
    assert isinstance(outcome, Found)
    return outcome.token


# --- the request


def test_the_request_carries_every_mandatory_header() -> None:
    request = build(query())
    assert request.method == "GET"
    assert request.body is None
    assert request.url == (
        "https://api-uat.payments.paynow.afterpaytouch.dev/v1/cards/verification"
        "?originalRequestId=8456732415666565656565656565656"
    )
    assert request.headers == {
        "Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.access.token",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": query().account.user_agent,
        "Request-Id": REQUEST_ID,
    }


def test_the_user_agent_follows_the_table_with_a_semicolon_after_every_part() -> None:
    account = query(
        merchant="SED",
        platform="Merchant-SP",
        merchant_id="ABC123",
        channel="app",
        country_code="AU",
        service="Unlock",
    ).account
    assert account.user_agent == (
        "Merchant/SED; Platform/Merchant-SP; MerchantId/ABC123; Channel/app; CountryCode/AU; "
        f"System Information/Python/{platform.python_version()}; Service/Unlock"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("merchant", "A;B"),  # a semicolon ends a part
        ("merchant", "A/B"),  # a slash begins its value
        ("platform", "A\r\nX-Evil: 1"),  # a line break begins another header
        ("merchant_id", ""),
        ("merchant_id", " A"),  # blanks at the ends are lost on the way
        ("merchant_id", "A "),
        ("merchant", "ünïcödé"),  # headers are ASCII
        ("channel", "fax"),  # none of the table's
        ("service", "auto-recharge"),  # the table's, but not written so
        ("country_code", "XX"),  # a country that there is not
        ("country_code", "AUS"),  # three letters
        ("client_id", ""),
        ("client_secret", ""),
        ("client_secret", "half a pair \udc80"),  # what a variable that is not UTF-8 becomes
        ("base_url", "api.example.com"),
        ("auth_url", "ftp://api.example.com"),
    ],
)
def test_an_account_whose_parts_would_spoil_a_header_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field) as caught:
        query(**{field: value})
    assert "merchantABC" not in str(caught.value)


def test_a_country_code_is_sent_in_capitals() -> None:
    assert "; CountryCode/NZ; " in query(country_code="nz").account.user_agent


@pytest.mark.parametrize("channel", ["sms", "web", "msite", "app", "ivr", "autopayment"])
@pytest.mark.parametrize("service", ["Auto-recharge", "Recharge", "Activation", "Shop", "Unlock"])
def test_every_channel_and_service_of_the_table_can_be_said(channel: str, service: str) -> None:
    agent = query(channel=channel, service=service).account.user_agent
    assert f"; Channel/{channel}; " in agent
    assert agent.endswith(f"; Service/{service}")


@pytest.mark.parametrize(
    ("reference", "encoded"),
    [
        ("0123456789abcdefABCDEF-_.~", "0123456789abcdefABCDEF-_.~"),  # what needs no encoding
        ("a b", "a%20b"),  # a blank is no plus
        ("a+b", "a%2Bb"),  # and a plus no blank
        ("x&originalRequestId=y", "x%26originalRequestId%3Dy"),  # a reference cannot add a parameter
        ("../../admin", "..%2F..%2Fadmin"),
        ("a#b?c%20", "a%23b%3Fc%2520"),
        ("ü✓", "%C3%BC%E2%9C%93"),  # UTF-8
    ],
)
def test_a_reference_is_percent_encoded(reference: str, encoded: str) -> None:
    url = build(query(reference)).url
    assert url.endswith(f"/v1/cards/verification?originalRequestId={encoded}")
    assert parse_qs(urlsplit(url).query) == {"originalRequestId": [reference]}


def test_without_an_access_token_nothing_is_built() -> None:
    asked = query()
    with pytest.raises(ValueError, match="access token"):
        build(Query(asked.reference, asked.account, asked.request_id))


# --- a success


def test_the_pages_sample_becomes_a_record_field_for_field() -> None:
    assert PROVIDERS["afterpay"] is afterpay.PROVIDER
    assert parse(HttpResponse(200, {}, SUCCESS.encode()), query()) == Found(
        TokenRecord(
            value=CardToken("6966af4975984c30ae2e2c18985bc21c"),
            brand=Brand.VISA,
            brand_raw="VISA",
            last4="1111",
            funding=Funding.DEBIT,
            product="pre-paid giftcard",
            issuer="Commonwealth Bank of Australia",
            country="AU",
            credit_limit="123",
            transaction_id="13e753e2e4a4b2f692b573e5fbe98b7b5523586a",
            receipt_id="32432",
        )
    )


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, SUCCESS.encode(), "13e753e2e4a4b2f692b573e5fbe98b7b5523586a"),
        (200, b'{"id": 17}', "17"),
        (200, b"{}", None),
        (200, b'{"id": [1]}', None),
        (200, b"<html>", None),
        (404, b'{"id": "1"}', None),  # what is not a card cannot be another's
        (503, b"", None),
    ],
)
def test_the_id_of_an_answer_is_read_from_a_success_alone(status: int, body: bytes, expected: str | None) -> None:
    assert afterpay.PROVIDER.answer_id is not None
    assert afterpay.PROVIDER.answer_id(HttpResponse(status, {}, body)) == expected


def test_a_success_with_the_mandatory_fields_alone_invents_nothing() -> None:
    outcome = parse(HttpResponse(200, {}, json.dumps(MANDATORY).encode()), query())
    assert outcome == Found(
        TokenRecord(value=CardToken(MANDATORY["token"]), last4="1111", transaction_id="1", receipt_id="2")
    )


@pytest.mark.parametrize("token", [None, "", "  ", 7, True, {}, ["x"], "\ud800", ...])
def test_a_success_without_a_card_token_is_a_protocol_failure(token: object) -> None:
    content = {name: value for name, value in {**MANDATORY, "token": token}.items() if value is not ...}
    outcome = parse(HttpResponse(200, {}, json.dumps(content).encode()), query())
    assert outcome == Failure(Category.PROTOCOL, "a success without a card token", http_status=200)


@pytest.mark.parametrize(
    "body",
    [
        b"",  # nothing
        b"<html>",  # a page
        b'{"token": "6966af49',  # cut off
        b'{"token": "\xff"}',  # not UTF-8
        b"[]",  # no object
        b'{"token": "x", "creditLimit": Infinity}',  # what Python alone calls JSON
        pytest.param(b'{"a":' * 100_000, id="nested"),  # without end
    ],
)
def test_a_success_that_cannot_be_read_is_a_protocol_failure(body: bytes) -> None:
    outcome = parse(HttpResponse(200, {}, body), query())
    assert isinstance(outcome, Failure)
    assert (outcome.category, outcome.http_status) == (Category.PROTOCOL, 200)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("123", "123"),  # a text
        (0, "0"),  # no credit is something else than no answer
        (None, None),
        (..., None),
        (True, None),
        ("plenty", None),
        ([123], None),
    ],
)
def test_a_credit_limit_is_a_decimal_in_a_string(limit: object, expected: str | None) -> None:
    assert record(creditLimit=limit).credit_limit == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("123.40", "123.40"),  # with the digits that were written, and no other
        ("0.1", "0.1"),  # not 0.1000000000000000055
        ("1e3", "1000"),
        ("1e999999999", None),  # a number, but no limit
    ],
)
def test_a_credit_limit_keeps_the_digits_that_were_written(written: str, expected: str | None) -> None:
    body = SUCCESS.replace('"creditLimit": 123,', f'"creditLimit": {written},').encode()
    outcome = parse(HttpResponse(200, {}, body), query())
    assert isinstance(outcome, Found)
    assert outcome.token.credit_limit == expected


@pytest.mark.parametrize(
    ("kind", "funding"),
    [
        ("DEBIT", Funding.DEBIT),
        ("Credit", Funding.CREDIT),
        ("pre-paid", Funding.PREPAID),
        ("charge", Funding.UNKNOWN),  # a word that is not in the table
        ("", None),
        (None, None),
        (..., None),
    ],
)
def test_a_card_type_is_a_funding(kind: object, funding: Funding | None) -> None:
    assert record(cardType=kind).funding == funding


@pytest.mark.parametrize(
    ("brand", "expected"),
    [
        ("Visa", Brand.VISA),  # the three of the page's table
        ("Mastercard", Brand.MASTERCARD),
        ("American Express", Brand.AMEX),
        ("eftpos", Brand.EFTPOS_AU),  # Australia's own
        ("Blue Card", Brand.UNKNOWN),
        (..., None),
    ],
)
def test_a_brand_is_normalised_and_the_providers_word_kept(brand: object, expected: Brand | None) -> None:
    found = record(cardBrand=brand)
    assert found.brand == expected
    assert found.brand_raw == (None if brand is ... else brand)


@pytest.mark.parametrize(
    ("country", "expected"), [("AU", "AU"), ("aus", "AU"), ("Australia", "AU"), ("Atlantis", None), (36, None)]
)
def test_a_country_is_two_letters_or_nothing(country: object, expected: str | None) -> None:
    assert record(country=country).country == expected


def test_no_more_of_a_card_number_is_kept_than_four_digits() -> None:
    assert record(last4Digits="4111111111111111").last4 is None
