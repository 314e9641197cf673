"""OPay's card token info, as strict as its page: signed body, codes inside HTTP 200."""

from __future__ import annotations

import dataclasses
import hmac
import json
from collections.abc import Mapping
from typing import ClassVar

from aiohttp import web

from simulator.answers import html_answer, json_answer
from simulator.cards import TEST_CARD_NUMBER, Card
from simulator.provider import Call, Document, Provider, Query, Scenario

SAMPLE_REFERENCE = "bf8593c1693546ea83743e4d433c5bf5"
SAMPLE: Document = {
    "code": "00000",
    "message": "SUCCESSFUL",
    "data": {
        "opayToken": f"OPAY_TOKEN_{SAMPLE_REFERENCE}",
        "brand": "VISA",
        "createTimestamp": 1637822753,
        "lastFourDigits": "7411",
        "firstSixDigits": "450875",
        "customerInfo": {
            "customerId": "121111113",
            "customerName": "name1",
            "customerEmail": "123@1231.com",
            "customerMobile": "20123111111",
        },
    },
}

# 09 to 20000: the table on OPay's page; the others: its general error page and what integrators report.
MESSAGES: Mapping[str, str] = {
    "00000": "SUCCESSFUL",
    "00": "SUCCESSFUL",
    "09": "Time out.",
    "90": "System failure.",
    "91": "Refund error, please try again later.",
    "96": "Search order error, please try again later.",
    "97": "Create checkout session failed.",
    "98": "Invalid request header with requestId.",
    "99": "Request channel parameters are not valid.",
    "20000": "Duplicate merchant order number.",
    "50003": "Service not available, please try again.",
    "02000": "Authentication failed.",
    "02001": "Request parameters not valid.",
    "02002": "Merchant not configured with this function.",
    "02006": "Card token does not exist.",
    "02007": "Merchant not available.",
}

BRAND_NAMES: Mapping[str, str] = {
    "unionpay": "UNION PAY",
    "unknown-brand": "FUTUREPAY",
}
"""Only VISA is published; a brand that is not named here is written the same way, in capitals."""


class OPay(Provider):
    """The card token query of OPay's international cashier."""

    name: ClassVar[str] = "opay"
    title: ClassVar[str] = "OPay"
    method: ClassVar[str] = "POST"
    path: ClassVar[str] = "/api/v1/international/token/query"
    prefix: ClassVar[str] = "OPAY_TOKEN_"
    account_fields: ClassVar[tuple[str, str]] = ("merchant_id", "private_key")
    built_in_accounts: ClassVar[Mapping[str, str]] = {
        # The page's merchant with the sample key of OPay's public SDK.
        "256612345678901": "OPAYPRV16160617080050.388604510744898",
        "256612345678902": "OPAYPRV16160617080051.720491836502774",
    }

    async def read(self, request: web.BaseRequest) -> Query:
        """The body must be an object with a string `opayToken` and nothing else."""
        body = await request.read()
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return Query(None, body)
        if not isinstance(document, dict) or document.keys() != {"opayToken"}:
            return Query(None, body)
        token = document["opayToken"]
        return Query(token if isinstance(token, str) and token else None, body)

    def check(self, request: web.BaseRequest, query: Query) -> web.Response | None:
        """Merchant, signature over the bytes that arrived, content type, parameters: in this order."""
        merchant = request.headers.get("MerchantId", "")
        if merchant not in self.accounts:
            return error("02002")
        presented = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")

        def signed(private_key: str) -> bool:
            signature = hmac.digest(private_key.encode(), query.body, "sha512").hex()
            return hmac.compare_digest(presented, b"Bearer " + signature.encode())

        if not self.knows(merchant, signed):
            return error("02000")
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return error("98")
        if query.reference is None:
            return error("02001")
        return None

    def found(self, reference: str, card: Card) -> Document:
        """A success with every documented field that the card has."""
        return success(details(reference, card))

    def not_found(self) -> web.Response:
        """Code 02006."""
        return error("02006")

    def timed_out(self) -> web.Response:
        """Code 09."""
        return error("09")

    def unavailable(self) -> web.Response:
        """Code 90."""
        return error("90")

    def http_error(self, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
        """OPay itself answers 200 with a code: any other status comes from the gateway before it, as a page."""
        return html_answer(status, headers)

    def down(self) -> web.Response:
        """Code 90, as a failing backend answers; checks come first only in a backend that works."""
        return error("90")

    def scenarios(self) -> tuple[Scenario, ...]:
        """What only OPay's page and codes can show."""
        return (
            Scenario(SAMPLE_REFERENCE, "The page's sample.", lambda _: json_answer(SAMPLE)),
            Scenario("minimal", "A card without customer and expiry.", _minimal),
            Scenario("partial-customer", "A customer of whom only the id is known.", _partial_customer),
            Scenario("null-fields", "Optional fields that are there, but null.", _null_fields),
            Scenario("string-timestamp", "createTimestamp as a string.", _string_timestamp),
            Scenario("with-expiry", "Expiry 02/28, as two strings.", _with_expiry),
            Scenario("no-expiry", "Expiry 00 and 00, created at 0: what stands for nothing.", _no_expiry),
            Scenario("success-00", "A card under code 00.", lambda c: json_answer({**c.document(), "code": "00"})),
            Scenario("code-XXXXX", "That code, with OPay's words for it.", lambda c: error(c.args[0])),
            Scenario("unauthorized-always", "Code 02000.", lambda _: error("02000")),
            Scenario("null-data", "Code 00000, but data is null.", lambda _: error("00000")),
            Scenario("wrong-token", "A card with another opayToken.", _wrong_token),
            Scenario("customer-shape", "The answer of the query by customerId.", _customer_shape),
            Scenario("echo-secrets", "Code 20000 that repeats signature, token and a card number.", _echo_secrets),
        )


def success(data: Document) -> Document:
    """The envelope of every success."""
    return {"code": "00000", "message": "SUCCESSFUL", "data": data}


def error(code: str, message: str | None = None) -> web.Response:
    """The envelope of every error: HTTP 200, and null for data."""
    return json_answer({"code": code, "message": message or MESSAGES.get(code, "Unknown error."), "data": None})


def details(reference: str, card: Card) -> Document:
    """`data` of a success, with every documented field that the card has."""
    data: Document = {"opayToken": reference, "brand": BRAND_NAMES.get(card.brand, card.brand.upper())}
    if card.expiry is not None:
        data["expiryYear"], data["expiryMonth"] = card.expiry
    data["createTimestamp"] = card.created
    data["lastFourDigits"] = card.last4
    data["firstSixDigits"] = card.first6
    data["customerInfo"] = {
        "customerId": card.customer_id,
        "customerName": card.customer_name,
        "customerEmail": card.customer_email,
        "customerMobile": card.customer_mobile,
    }
    return data


def _changed(call: Call, **changes: object) -> web.Response:
    return json_answer(success({**details(call.reference, call.card()), **changes}))


def _minimal(call: Call) -> web.Response:
    data = details(call.reference, dataclasses.replace(call.card(), expiry=None))
    del data["customerInfo"]
    return json_answer(success(data))


def _partial_customer(call: Call) -> web.Response:
    return _changed(call, customerInfo={"customerId": call.card().customer_id})


def _null_fields(call: Call) -> web.Response:
    return _changed(call, expiryYear=None, expiryMonth=None, customerInfo=None)


def _string_timestamp(call: Call) -> web.Response:
    return _changed(call, createTimestamp=str(call.card().created))


def _with_expiry(call: Call) -> web.Response:
    card = dataclasses.replace(call.card(), expiry=("28", "02"))
    return json_answer(success(details(call.reference, card)))


def _no_expiry(call: Call) -> web.Response:
    return _changed(call, expiryYear="00", expiryMonth="00", createTimestamp=0)


def _wrong_token(call: Call) -> web.Response:
    return _changed(call, opayToken=f"OPAY_TOKEN_{call.card().token}")


def _customer_shape(call: Call) -> web.Response:
    data = details(call.reference, call.card())
    customer = data.pop("customerInfo")
    return json_answer(success({"customer": customer, "cardTokens": [data]}))


def _echo_secrets(call: Call) -> web.Response:
    signature = call.request.headers["Authorization"]
    return error(
        "20000", f"Authorization {signature} for opayToken {call.reference} with card {TEST_CARD_NUMBER} failed."
    )
