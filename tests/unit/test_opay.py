"""OPay's adapter: what is sent, and what a success becomes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cardtoken.contract import Brand, Category, Customer, TokenRecord
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpResponse
from tasks.lookups.outcomes import Failure, Found
from tasks.providers import PROVIDERS, opay
from tasks.providers.opay import OpayAccount, build, parse, sign
from tasks.providers.provider import Query

KEY = "OPAYPRV16160617080050.388604510744898"
TOKEN = "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"
REFERENCE_SIGNATURE = (
    "8d00c79f5b8558d0c3e482ea1873f67554273f61a9eba0a6342a603f5c06dd08"
    "ccd0fdde7c6c10a0d246fec9c089ca0f98ba9ab223e37e9f87744347153505d7"
)
TOKEN_SIGNATURE = (
    "3092502a0644676174276cd617c2e1a0ea9ed81127e00493bc443613579f9019"
    "474cc199b238d3bdbc7761239292c140187fcd944e9237e1eb3ec81e7ca8ea4d"
)

#: The page's sample of a success, as it stands there.
SUCCESS = """
                    {
                        "code":"00000",
                        "message":"SUCCESSFUL",
                        "data":{
                            "opayToken":"OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5",
                            "brand":"VISA",
                            "createTimestamp":1637822753,
                            "lastFourDigits":"7411",
                            "firstSixDigits":"450875",
                            "customerInfo":{
                                "customerId":"121111113",
                                "customerName":"name1",
                                "customerEmail":"123@1231.com",
                                "customerMobile":"20123111111"
                                }
                        }
                    }
"""
CUSTOMER = Customer(id="121111113", name="name1", email="123@1231.com", phone="20123111111")


def query(token: str = TOKEN, **account: Any) -> Query[OpayAccount]:
    return Query(
        CardToken(token), OpayAccount(**{"merchant_id": "256612345678901", "private_key": KEY, **account}), "0" * 32
    )


def answer(**changes: Any) -> HttpResponse:
    """The page's success with fields of ``data`` changed; a field that becomes ``...`` is left out."""
    content = json.loads(SUCCESS)
    content["data"] = {name: value for name, value in {**content["data"], **changes}.items() if value is not ...}
    return HttpResponse(200, {}, json.dumps(content).encode())


def record(**changes: Any) -> TokenRecord:
    outcome = parse(answer(**changes), query())
    assert isinstance(outcome, Found)
    return outcome.token


# --- the request


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        # from OPay's cashier pages, with the key of its Java SDK's sample
        (
            b'{"reference":"1616661455009"}',
            REFERENCE_SIGNATURE,
        ),
        # the body of the page's own sample token
        (
            b'{"opayToken":"OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"}',
            TOKEN_SIGNATURE,
        ),
    ],
)
def test_the_signature_is_the_one_that_opay_computes(body: bytes, signature: str) -> None:
    assert sign(body, Secret(KEY)) == signature


def test_the_request_is_the_pages_own() -> None:
    request = build(query())
    assert request.method == "POST"
    assert request.url == "https://sandbox-cashierapi.opaycheckout.com/api/v1/international/token/query"
    assert request.body == b'{"opayToken":"OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"}'
    assert request.headers == {
        "Authorization": f"Bearer {TOKEN_SIGNATURE}",
        "MerchantId": "256612345678901",
        "Content-Type": "application/json",
        "Accept": "application/json",
    }


@pytest.mark.parametrize(
    "token",
    [
        TOKEN,  # the usual kind
        'quote " backslash \\ slash /',  # characters that JSON escapes, or may
        "ünïcödé ✓ 😀",  # characters beyond ASCII, and beyond the first plane
    ],
)
def test_the_signed_bytes_are_the_sent_ones(token: str) -> None:
    request = build(query(token))
    assert request.body is not None
    assert json.loads(request.body) == {"opayToken": token}
    assert request.headers["Authorization"] == f"Bearer {sign(request.body, Secret(KEY))}"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        # a host
        ("https://api.example.com", "https://api.example.com/api/v1/international/token/query"),
        # a slash at its end is not doubled
        ("https://api.example.com/", "https://api.example.com/api/v1/international/token/query"),
        # a gateway that keeps OPay under a path
        ("https://gw.example.com:8443/opay", "https://gw.example.com:8443/opay/api/v1/international/token/query"),
    ],
)
def test_the_base_url_is_configuration(base_url: str, url: str) -> None:
    assert build(query(base_url=base_url)).url == url


def test_opay_wants_no_access_token() -> None:
    assert PROVIDERS["opay"] is opay.PROVIDER
    assert opay.PROVIDER.access_tokens is None


# --- a success


def test_the_pages_sample_becomes_a_record_field_for_field() -> None:
    assert parse(HttpResponse(200, {}, SUCCESS.encode()), query()) == Found(
        TokenRecord(
            value=CardToken(TOKEN),
            brand=Brand.VISA,
            brand_raw="VISA",
            first6="450875",
            last4="7411",
            created_at=datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC),
            customer=CUSTOMER,
        )
    )


@pytest.mark.parametrize("status", [200, 201, 400, 500])
def test_the_code_decides_and_not_the_http_status(status: int) -> None:
    assert isinstance(parse(HttpResponse(status, {}, SUCCESS.encode()), query()), Found)


def test_the_code_of_the_pages_prose_is_a_success_too() -> None:
    content = {**json.loads(SUCCESS), "code": "00"}
    assert parse(HttpResponse(200, {}, json.dumps(content).encode()), query()) == parse(answer(), query())


@pytest.mark.parametrize("echoed", ["OPAY_TOKEN_another", TOKEN.lower(), TOKEN + " ", "", None, 7, [TOKEN], ...])
def test_a_success_that_names_another_token_is_never_found(echoed: object) -> None:
    outcome = parse(answer(opayToken=echoed), query())
    assert isinstance(outcome, Failure)
    assert outcome.category is Category.PROTOCOL
    assert TOKEN not in outcome.message
    named = isinstance(echoed, str) and bool(echoed)
    assert outcome.misdirected is named, "an answer to another caller, or an answer without a token"


@pytest.mark.parametrize(
    "data",
    [
        None,  # as in an error
        [],  # an empty list, as some serialisers write an empty object
        "SUCCESSFUL",  # a text
        {},  # an object without a token
        {"customer": {"customerId": "1"}, "cardTokens": [{"opayToken": TOKEN}]},  # the answer to a customer's id
    ],
)
def test_a_success_of_another_shape_is_a_protocol_failure(data: object) -> None:
    body = json.dumps({"code": "00000", "message": "SUCCESSFUL", "data": data}).encode()
    outcome = parse(HttpResponse(200, {}, body), query())
    assert isinstance(outcome, Failure)
    assert outcome.category is Category.PROTOCOL
    assert outcome.http_status == 200


def test_a_success_with_nothing_but_the_token_invents_nothing() -> None:
    body = json.dumps({"code": "00000", "data": {"opayToken": TOKEN}}).encode()
    assert parse(HttpResponse(200, {}, body), query()) == Found(TokenRecord(value=CardToken(TOKEN)))


def test_fields_that_opay_has_not_documented_are_passed_over() -> None:
    assert record(binCountry="EG", nested={"a": [1]}) == record()


@pytest.mark.parametrize(
    ("timestamp", "created_at"),
    [
        (1637822753, datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC)),  # a number, as in the sample
        ("1637822753", datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC)),  # a text, as in the table
        ("", None),
        (None, None),
        (..., None),
        (True, None),
        ("2021-11-25", None),  # another kind of time is not guessed at
        (1637822753000, datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC)),  # milliseconds
        (0, None),
        (20211125, None),  # a date is no time
    ],
)
def test_the_time_of_creation_is_read_from_a_number_or_a_text(timestamp: object, created_at: datetime | None) -> None:
    assert record(createTimestamp=timestamp).created_at == created_at


@pytest.mark.parametrize(
    ("year", "month", "expiry"),
    [
        ("26", "02", (2026, 2)),  # as in the page's table
        (26, 2, (2026, 2)),  # the same as numbers
        ("2026", "12", (2026, 12)),  # a year in full
        (..., ..., (None, None)),  # as in the page's samples
        ("", "", (None, None)),
        ("26", "13", (None, None)),  # a month that there is not: no expiry at all
        ("00", "00", (None, None)),  # what stands for none
        ("26", ..., (None, None)),  # half of one
        ("xx", "00", (None, None)),
        (None, {}, (None, None)),
    ],
)
def test_the_expiry_is_optional_and_two_digits_are_this_century(
    year: object, month: object, expiry: tuple[int | None, int | None]
) -> None:
    found = record(expiryYear=year, expiryMonth=month)
    assert (found.exp_year, found.exp_month) == expiry


@pytest.mark.parametrize(
    ("brand", "expected", "raw"),
    [
        ("VISA", Brand.VISA, "VISA"),
        ("MasterCard", Brand.MASTERCARD, "MasterCard"),
        ("VERVE", Brand.VERVE, "VERVE"),  # OPay's Nigerian market
        ("MEEZA", Brand.MEEZA, "MEEZA"),  # OPay's Egyptian market
        ("Kaching", Brand.UNKNOWN, "Kaching"),  # a word that is not listed keeps its letters
        ("", None, None),
        (None, None, None),
        (..., None, None),
        (["VISA"], None, None),
    ],
)
def test_a_brand_is_normalised_and_the_providers_word_kept(
    brand: object, expected: Brand | None, raw: str | None
) -> None:
    found = record(brand=brand)
    assert (found.brand, found.brand_raw) == (expected, raw)


@pytest.mark.parametrize(
    ("info", "customer"),
    [
        (..., None),  # missing
        (None, None),
        ({}, None),  # an empty object tells nothing
        ({"customerId": "", "customerName": None}, None),  # nor do empty fields
        ("name1", None),  # another kind
        ({"customerName": "name1"}, Customer(name="name1")),
        ({"customerId": 121111113}, Customer(id="121111113")),  # a number keeps its digits
        ({"customerMobile": 20123111111, "x": 1}, Customer(phone="20123111111")),  # a field that is not documented
    ],
)
def test_a_customer_is_as_partial_as_the_provider_told(info: object, customer: Customer | None) -> None:
    assert record(customerInfo=info).customer == customer


@pytest.mark.parametrize(
    ("first6", "last4", "expected"),
    [
        ("450875", "7411", ("450875", "7411")),
        (450875, 7411, ("450875", "7411")),  # numbers
        ("4508751234567411", "4508751234567411", (None, None)),  # a whole card number is never kept
        ("45087512", "07411", (None, None)),  # nor two digits more of it
        ("45****", "**11", (None, None)),
        ("٤٥٠٨٧٥", "٧٤١١", (None, None)),  # digits of another script
    ],
)
def test_no_more_of_a_card_number_is_kept_than_six_and_four_digits(
    first6: object, last4: object, expected: tuple[str | None, str | None]
) -> None:
    found = record(firstSixDigits=first6, lastFourDigits=last4)
    assert (found.first6, found.last4) == expected
