"""Afterpay PayNow's card verification lookup and its access tokens, as strict as the product's pages."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping
from typing import ClassVar

from aiohttp import web

from simulator.access import AccessTokens, RequestIds, basic_credentials
from simulator.answers import encode, html_answer, json_answer, json_bytes, reason
from simulator.cards import TEST_CARD_NUMBER, Card
from simulator.provider import DOWN, HANG, NORMAL, Call, Document, Endpoint, Provider, Query, Scenario, at_first
from simulator.user_agent import user_agent_complaint

SAMPLE_REFERENCE = "8456732415666565656565656565656"
SAMPLE: Document = {
    "id": "13e753e2e4a4b2f692b573e5fbe98b7b5523586a",
    "receiptId": "32432",
    "token": "6966af4975984c30ae2e2c18985bc21c",
    "last4Digits": "1111",
    "creditLimit": 123,
    "cardBrand": "VISA",
    "cardType": "DEBIT",
    "cardSubType": "pre-paid giftcard",
    "issuingBank": "Commonwealth Bank of Australia",
    "country": "AU",
}

# The page's table writes "Visa, Mastercard, American Express", its sample "VISA"; the others as the schemes do.
BRAND_NAMES: Mapping[str, str] = {
    "visa": "VISA",
    "mastercard": "Mastercard",
    "amex": "American Express",
    "diners": "Diners Club",
    "discover": "Discover",
    "jcb": "JCB",
    "unionpay": "China UnionPay",
    "maestro": "Maestro",
    "verve": "Verve",
    "meeza": "Meeza",
    "mada": "mada",
    "eftpos": "eftpos",
    "rupay": "RuPay",
    "elo": "Elo",
    "troy": "Troy",
    "unknown-brand": "Future Pay",
}

GARBAGE, UNAUTHORIZED, REFUSED = "garbage", "unauthorized", "refused"


class Afterpay(Provider):
    """Afterpay PayNow: retrieve card token."""

    name: ClassVar[str] = "afterpay"
    title: ClassVar[str] = "Afterpay"
    method: ClassVar[str] = "GET"
    path: ClassVar[str] = "/v1/cards/verification"
    account_fields: ClassVar[tuple[str, str]] = ("client_id", "client_secret")
    built_in_accounts: ClassVar[Mapping[str, str]] = {
        # The pair that the product's authentication page shows.
        "afterpay": "merchantABC",
        "afterpay-second": "merchantXYZ",
    }

    def __init__(self, accounts: Mapping[str, str] | None = None, *, token_ttl: float = 3600) -> None:
        """As any provider; access tokens and the request ids already seen live as long as the process."""
        super().__init__(accounts, token_ttl=token_ttl)
        self._tokens = AccessTokens(token_ttl)
        self._request_ids = RequestIds()

    async def read(self, request: web.BaseRequest) -> Query:
        """One non-empty `originalRequestId` in the query."""
        values = request.query.getall("originalRequestId", [])
        return Query(values[0] if len(values) == 1 and values[0] else None)

    def check(self, request: web.BaseRequest, query: Query) -> web.Response | None:
        """Access token, mandatory headers, parameters, then the rules for Request-Id: in this order."""
        if not self._tokens.knows(_bearer(request)):
            return error(401, "The access token is missing, expired or unknown.")
        request_id = request.headers.get("Request-Id", "")
        complaint = _header_complaint(request) or _reference_complaint(query.reference, request_id)
        if complaint:
            return error(400, complaint)
        if not self._request_ids.add(request_id):
            return error(409, "Request-Id was used before.")
        return None

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where access tokens are issued."""
        modes = (NORMAL, DOWN, HANG, GARBAGE, UNAUTHORIZED, REFUSED)
        return (Endpoint("/oauth2/token", "token_endpoint", modes, self._issue),)

    async def _issue(self, request: web.BaseRequest, mode: str) -> web.StreamResponse:
        broken = {DOWN: self.down, GARBAGE: _garbage, REFUSED: _refused, UNAUTHORIZED: _not_authenticated}.get(mode)
        if broken is not None:
            return broken()
        client_id, secret = basic_credentials(request.headers.get("Authorization", ""))
        if not self.knows(client_id, lambda known: known == secret):
            return _not_authenticated()
        if request.method != "POST" or not _accepts_json(request):
            return error(400, "Send a POST that accepts application/json.")
        # RFC 6749, 4.4.2: the grant is a form field. Any other body leaves the form empty.
        if (await request.post()).get("grant_type") != "client_credentials":
            return error(400, "grant_type must be client_credentials.")
        token, lifetime = self._tokens.issue()
        document = {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}
        return json_answer(document, headers={"Cache-Control": "no-store"})

    def found(self, reference: str, card: Card) -> Document:  # noqa: ARG002 - this answer repeats no reference
        """A success with every documented field that the card has."""
        document: Document = {
            "id": card.transaction,
            "receiptId": card.receipt,
            "token": card.token,
            "last4Digits": card.last4,
        }
        if card.credit_limit is not None:
            document["creditLimit"] = card.credit_limit
        document["cardBrand"] = BRAND_NAMES[card.brand]
        document["cardType"] = card.funding
        document["cardSubType"] = card.product
        document["issuingBank"] = card.issuer
        document["country"] = card.country
        return document

    def not_found(self) -> web.Response:
        """404."""
        return error(404, "The card verification was not found.")

    def timed_out(self) -> web.Response:
        """408."""
        return error(408, "The request timed out.")

    def unavailable(self) -> web.Response:
        """503."""
        return error(503, "The service is unavailable.")

    def http_error(self, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
        """The status with Afterpay's error body."""
        return error(status, f"{reason(status)}.", headers)

    def down(self) -> web.Response:
        """503 with a page: the gateway answers for a backend that is away."""
        return html_answer(503)

    def scenarios(self) -> tuple[Scenario, ...]:
        """What only Afterpay's page can show."""
        return (
            Scenario(SAMPLE_REFERENCE, "The page's sample.", lambda _: json_answer(SAMPLE)),
            Scenario("minimal", "The mandatory fields alone.", _minimal),
            Scenario("null-fields", "Optional fields that are there, but null.", _null_fields),
            Scenario("credit-limit", "creditLimit written 1234.50.", _credit_limit),
            Scenario(
                "unauthorized-N",
                "401 N times, the access token revoked each time, then a card.",
                at_first(self._revoked),
            ),
            Scenario(
                "forbidden-N",
                "403 N times, the access token revoked each time, then a card.",
                at_first(self._revoked_as_forbidden),
            ),
            Scenario("unauthorized-always", "401; the access token stays good.", lambda _: _unauthorized()),
            Scenario("null-data", "200 with the JSON value null.", lambda _: json_answer(None)),
            Scenario("wrong-token", "A card without its token.", lambda c: _without(c, "token")),
            Scenario("echo-secrets", "400 that repeats access token, reference and a card number.", _echo_secrets),
        )

    def _revoked(self, call: Call) -> web.Response:
        self._tokens.revoke(_bearer(call.request))
        return _unauthorized()

    def _revoked_as_forbidden(self, call: Call) -> web.Response:
        self._tokens.revoke(_bearer(call.request))
        return error(403, "The access token is not accepted.")


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error in the shape of Afterpay's other APIs: none is published for this one."""
    code = re.sub(r"\W+", "_", reason(status).lower())
    body = {"errorCode": code, "errorId": uuid.uuid4().hex[:16], "message": message, "httpStatusCode": status}
    return json_answer(body, status, headers)


def _garbage() -> web.Response:
    return json_bytes(b'{"access_token": oops')


def _refused() -> web.Response:
    # RFC 6749, 5.2, as most servers send it: 400, and the error's code beside its words.
    return json_answer({"error": "invalid_client", "error_description": "The client secret is wrong."}, 400)


def _not_authenticated() -> web.Response:
    return error(401, "Client authentication failed.")


def _is_json(media_type: str) -> bool:
    return media_type.partition(";")[0].strip().lower() == "application/json"


def _bearer(request: web.BaseRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


def _accepts_json(request: web.BaseRequest) -> bool:
    return any(_is_json(media) for media in request.headers.get("Accept", "").split(","))


def _header_complaint(request: web.BaseRequest) -> str | None:
    if not _is_json(request.headers.get("Content-Type", "")):
        return "Content-Type must be application/json."
    if not _accepts_json(request):
        return "Accept must be application/json."
    return user_agent_complaint(request.headers.get("User-Agent", ""))


def _reference_complaint(reference: str | None, request_id: str) -> str | None:
    if reference is None:
        return "originalRequestId is missing."
    if not request_id:
        return "Request-Id is missing."
    return "Request-Id must differ from originalRequestId." if request_id == reference else None


def _unauthorized() -> web.Response:
    return error(401, "The access token is not accepted.")


def _without(call: Call, *fields: str) -> web.Response:
    return json_answer({key: value for key, value in call.document().items() if key not in fields})


def _minimal(call: Call) -> web.Response:
    return _without(call, "creditLimit", "cardBrand", "cardType", "cardSubType", "issuingBank", "country")


def _null_fields(call: Call) -> web.Response:
    mandatory = ("id", "receiptId", "token", "last4Digits")
    document = {**call.document(), "creditLimit": None}
    return json_answer({key: value if key in mandatory else None for key, value in document.items()})


def _credit_limit(call: Call) -> web.Response:
    document = call.provider.found(call.reference, dataclasses.replace(call.card(), credit_limit=123450))
    # Written by hand: no JSON encoder keeps the zero.
    return json_bytes(encode(document).replace(b":123450,", b":1234.50,"))


def _echo_secrets(call: Call) -> web.Response:
    authorization = call.request.headers["Authorization"]
    return error(
        400, f"Authorization {authorization} for {call.reference} with card {TEST_CARD_NUMBER} is not possible."
    )
