"""OPay: Card Token Info API, ``POST /api/v1/international/token/query``.

The signature is the lowercase hex HMAC-SHA512 of the request body under the merchant's private key (OPay's token
pages; its official Java SDK does the same). OPay's errors come with HTTP 200: a ``code`` of the table decides, with any
status. What stands before OPay answers with a status and, often, with JSON of its own: a code that is not in the
table decides nothing where the status is an error.
"""

import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from cardtoken.contract import Category, Customer, TokenRecord
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Answer, Failure, Found, NotFound, Outcome, Verdict
from tasks.providers import fields
from tasks.providers.provider import Account, BaseUrl, HeaderText, Key, Provider, Query
from tasks.providers.scrub import MAX_CODE, scrubbed
from tasks.providers.statuses import failure_of, is_success, no_such_url, protocol_failure, retry_after

SANDBOX: Final = "https://sandbox-cashierapi.opaycheckout.com"
_PATH = "/api/v1/international/token/query"

#: Codes on OPay's error page, and five-digit ones that integrators report. One that is not here is ``rejected`` with a
#: status of success; with any other the status decides.
#: "00000" is in every sample of a success; the page's prose says "00".
CODES: Final[Mapping[str, Verdict]] = {
    "00000": Answer.FOUND,
    "00": Answer.FOUND,
    "09": Category.TIMEOUT,
    "90": Category.UNAVAILABLE,
    "91": Category.UNAVAILABLE,
    "96": Category.UNAVAILABLE,
    "50003": Category.UNAVAILABLE,
    "02000": Category.AUTHENTICATION,
    "02002": Category.AUTHENTICATION,
    "02007": Category.AUTHENTICATION,
    "02001": Category.INVALID_REQUEST,
    "98": Category.INVALID_REQUEST,
    "99": Category.INVALID_REQUEST,
    "02006": Answer.NOT_FOUND,
    "02812": Answer.NOT_FOUND,
    "00012": Answer.NOT_FOUND,
    "97": Category.REJECTED,
    "02003": Category.REJECTED,
    "02004": Category.REJECTED,
    "20000": Category.REJECTED,
}


def _json(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


class OpayAccount(Account):
    """One merchant at OPay."""

    merchant_id: HeaderText = Field(description="the merchant number that OPay gave, such as 256612345678901")
    private_key: Key = Field(min_length=1, description="the merchant's private key (OPAYPRV…)")
    base_url: BaseUrl = Field(default=SANDBOX, description=f"OPay's host in your country, such as {SANDBOX}")
    code_overrides: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=64)], Answer | Category], BeforeValidator(_json)
    ] = Field(
        default_factory=dict,
        description='a JSON object from OPay code to category, found or not_found, such as {"50003": "rejected"}',
    )


def sign(body: bytes, private_key: Secret) -> str:
    """The signature of exactly these bytes, in lowercase hex."""
    return hmac.digest(private_key.get_secret_value().encode(), body, "sha512").hex()


def build(query: Query[OpayAccount]) -> HttpRequest:
    """The request for one card token; the signed bytes are the sent ones."""
    body = json.dumps({"opayToken": query.reference.get_secret_value()}, separators=(",", ":")).encode()
    return HttpRequest(
        method="POST",
        url=query.account.base_url + _PATH,
        headers={
            "Authorization": f"Bearer {sign(body, query.account.private_key)}",
            "MerchantId": query.account.merchant_id,
            "Content-Type": "application/json",
            "Accept": "application/json",
        },
        body=body,
    )


def parse(response: HttpResponse, query: Query[OpayAccount]) -> Outcome:
    """What OPay's answer says about the token that was asked for, and about no other."""
    try:
        answer = fields.json_object(response.body)
    except fields.UnreadableError as error:
        return _by_status(response, query, str(error))
    code = fields.text(answer.get("code"))
    match _verdict(code, response, query):
        case None:
            return _by_status(response, query, "no code in it")
        case Answer.FOUND:
            return _found(answer.get("data"), response, query)
        case Answer.NOT_FOUND:
            return NotFound()
        case category:
            secrets = _secrets(query)
            return Failure(
                category=category,
                code=scrubbed(code, secrets, MAX_CODE),
                message=scrubbed(fields.prose(answer.get("message")), secrets) or "OPay gave no message",
                http_status=response.status,
                retry_after=retry_after(response),
            )


def _verdict(code: str | None, response: HttpResponse, query: Query[OpayAccount]) -> Verdict | None:
    """What the code says; None where it says nothing and the status has to."""
    if code is None:
        return None
    listed = query.account.code_overrides.get(code) or CODES.get(code)
    return listed or (Category.REJECTED if is_success(response.status) else None)


def _by_status(response: HttpResponse, query: Query[OpayAccount], fault: str) -> Failure:
    """The failure of an answer without a code that counts; ``fault`` says what is wrong with a 200."""
    if response.status == 200:
        return protocol_failure(response, fault, may_pass=True)
    # A 404 without a code of OPay's comes from what stands before it, and says nothing about the card token.
    if response.status == 404:
        return no_such_url(response, _secrets(query), "OPay", "OPAY_BASE_URL")
    return failure_of(response, _secrets(query))


def _secrets(query: Query[OpayAccount]) -> tuple[Secret | CardToken, ...]:
    return (query.reference, query.account.private_key, _signature(query))


def _signature(query: Query[OpayAccount]) -> Secret:
    return Secret(build(query).headers["Authorization"].removeprefix("Bearer "))


def _found(data: object, response: HttpResponse, query: Query[OpayAccount]) -> Found | Failure:
    if not isinstance(data, dict):
        if not is_success(response.status):
            return _by_status(response, query, "a success without data")
        return protocol_failure(response, "a success without data")
    token = data.get("opayToken")
    if token != query.reference.get_secret_value():
        failure = protocol_failure(response, "a success that does not name the card token asked for")
        return replace(failure, misdirected=isinstance(token, str) and bool(token.strip()))
    year, month = fields.expiry(data.get("expiryYear"), data.get("expiryMonth"))
    return Found(
        TokenRecord(
            value=query.reference,
            brand=fields.brand(data.get("brand")),
            brand_raw=fields.text(data.get("brand")),
            first6=fields.digits(data.get("firstSixDigits"), 6),
            last4=fields.digits(data.get("lastFourDigits"), 4),
            exp_month=month,
            exp_year=year,
            created_at=fields.unix_time(data.get("createTimestamp")),
            customer=_customer(data.get("customerInfo")),
        )
    )


def _customer(info: object) -> Customer | None:
    if not isinstance(info, dict):
        return None
    told = {
        "id": fields.text(info.get("customerId")),
        "name": fields.text(info.get("customerName")),
        "email": fields.text(info.get("customerEmail")),
        "phone": fields.text(info.get("customerMobile")),
    }
    return Customer(**told) if any(told.values()) else None


PROVIDER: Final = Provider(
    name="opay",
    account=OpayAccount,
    build=build,
    parse=parse,
    codes=CODES,
)
