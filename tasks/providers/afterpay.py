"""Afterpay PayNow: retrieve card token, ``GET /v1/cards/verification?originalRequestId=…``.

Its pages publish neither an error body nor a list of codes: the HTTP status decides, and ``errorCode`` and
``message`` are kept where a JSON body has them, as those of Afterpay's other APIs do.
"""

import base64
import platform
from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlencode

import pycountry
from pydantic import AfterValidator, Field

from cardtoken.contract import AfterpayRequest, TokenRecord
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.outcomes import Answer, Failure, Found, NotFound, Outcome, Verdict
from tasks.providers import fields
from tasks.providers.provider import AccessToken, AccessTokens, Account, BaseUrl, Key, Provider, Query
from tasks.providers.scrub import MAX_CODE, scrubbed
from tasks.providers.statuses import STATUSES, category_of, failure_of, protocol_failure, retry_after

UAT: Final = "https://api-uat.payments.paynow.afterpaytouch.dev"
_AUTH_PATH = "/oauth2/token"
_PATH = "/v1/cards/verification"

#: By HTTP status; one that is not here is judged by its class. 404 is the answer for a reference it does not know.
CODES: Final[Mapping[str, Verdict]] = {
    "200": Answer.FOUND,
    "404": Answer.NOT_FOUND,
    **{str(status): category for status, category in STATUSES.items()},
}

#: A part of the User-Agent header: it may hold no semicolon (that ends a part) and no slash (that begins its value).
Part = Annotated[str, Field(pattern=r"^[!-.0-:<-~]([ -.0-:<-~]*[!-.0-:<-~])?\z", max_length=128)]


def _alpha_2(value: str) -> str:
    country = pycountry.countries.get(alpha_2=value)
    if country is None:
        raise ValueError("must be an ISO 3166-1 alpha-2 code, such as AU")
    return str(country.alpha_2)


class AfterpayAccount(Account):
    """One merchant at Afterpay PayNow, and what the User-Agent header must say of it."""

    client_id: str = Field(min_length=1, max_length=256, description="the client id that Afterpay gave")
    client_secret: Key = Field(min_length=1, description="the client secret that Afterpay gave")
    base_url: BaseUrl = Field(default=UAT, description=f"Afterpay's host, such as {UAT}")
    auth_url: BaseUrl | None = Field(default=None, description="where access tokens are had, if not at /oauth2/token")
    merchant: Part = Field(default="cardtoken", description="your name as Afterpay knows it, without / and ;")
    merchant_id: Part = Field(default="cardtoken", description="your merchant id at Afterpay, without / and ;")
    platform: Part = Field(default="cardtoken-lookup", description="your platform's name, without / and ;")
    channel: Literal["sms", "web", "msite", "app", "ivr", "autopayment"] = Field(
        default="autopayment", description="sms, web, msite, app, ivr or autopayment"
    )
    country_code: Annotated[str, AfterValidator(_alpha_2)] = Field(
        default="AU", description="an ISO 3166-1 alpha-2 code, such as AU"
    )
    service: Literal["Auto-recharge", "Recharge", "Activation", "Shop", "Unlock"] = Field(
        default="Auto-recharge", description="Auto-recharge, Recharge, Activation, Shop or Unlock"
    )

    @property
    def user_agent(self) -> str:
        """The mandatory header, by the table of Afterpay's user-agent page: every part ends with a semicolon."""
        return (
            f"Merchant/{self.merchant}; Platform/{self.platform}; MerchantId/{self.merchant_id}; "
            f"Channel/{self.channel}; CountryCode/{self.country_code}; "
            f"System Information/Python/{platform.python_version()}; Service/{self.service}"
        )


def build_access_token(account: AfterpayAccount) -> HttpRequest:
    """Client credentials (RFC 6749, section 4.4): the id and secret as Basic, the grant as a form."""
    return HttpRequest(
        method="POST",
        url=account.auth_url or account.base_url + _AUTH_PATH,
        headers={
            "Authorization": f"Basic {_credentials(account).get_secret_value()}",
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": account.user_agent,
        },
        body=urlencode({"grant_type": "client_credentials"}).encode(),
    )


def _credentials(account: AfterpayAccount) -> Secret:
    pair = f"{account.client_id}:{account.client_secret.get_secret_value()}"
    return Secret(base64.b64encode(pair.encode()).decode())


def parse_access_token(response: HttpResponse, account: AfterpayAccount) -> AccessToken | Failure:
    """The access token, with ``expires_in`` in seconds; without one, it is taken to hold for a minute."""
    if response.status != 200:
        return _failure(response, (account.client_secret, _credentials(account)), "no access token: HTTP status")
    try:
        answer = fields.json_object(response.body)
    except fields.UnreadableError as error:
        return protocol_failure(response, f"no access token: {error}")
    token = answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token.strip():
        return protocol_failure(response, "no access token in the answer to the request for one")
    seconds = fields.amount(answer.get("expires_in"))
    return AccessToken(Secret(token.strip()), 60.0 if seconds is None else max(0.0, float(seconds)))


def build(query: Query[AfterpayAccount]) -> HttpRequest:
    """The request for one reference. Content-Type is mandatory on this GET as well."""
    if query.access_token is None:
        raise ValueError("Afterpay wants an access token")
    reference = quote(query.reference.get_secret_value(), safe="")
    return HttpRequest(
        method="GET",
        url=f"{query.account.base_url}{_PATH}?originalRequestId={reference}",
        headers={
            "Authorization": f"Bearer {query.access_token.get_secret_value()}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": query.account.user_agent,
            "Request-Id": query.request_id,
        },
    )


def parse(response: HttpResponse, query: Query[AfterpayAccount]) -> Outcome:
    """What Afterpay's answer says about the card verification that was asked for."""
    match CODES.get(str(response.status)) or category_of(response.status):
        case Answer.FOUND:
            return _found(response)
        case Answer.NOT_FOUND:
            return NotFound()
        case _:
            secrets = (query.reference, query.access_token, query.account.client_secret)
            return _failure(response, secrets, "Afterpay answered with HTTP status")


def _found(response: HttpResponse) -> Found | Failure:
    try:
        answer = fields.json_object(response.body)
    except fields.UnreadableError as error:
        return protocol_failure(response, str(error))
    token = answer.get("token")
    if not isinstance(token, str) or fields.text(token) is None:
        return protocol_failure(response, "a success without a card token")
    return Found(
        TokenRecord(
            value=CardToken(token),
            brand=fields.brand(answer.get("cardBrand")),
            brand_raw=fields.text(answer.get("cardBrand")),
            last4=fields.digits(answer.get("last4Digits"), 4),
            funding=fields.funding(answer.get("cardType")),
            product=fields.text(answer.get("cardSubType")),
            issuer=fields.text(answer.get("issuingBank")),
            country=fields.country(answer.get("country")),
            credit_limit=fields.amount(answer.get("creditLimit")),
            transaction_id=fields.text(answer.get("id")),
            receipt_id=fields.text(answer.get("receiptId")),
        )
    )


def _failure(response: HttpResponse, secrets: tuple[Secret | CardToken | None, ...], words: str) -> Failure:
    try:
        answer = fields.json_object(response.body)
    except fields.UnreadableError:
        return failure_of(response)
    code = fields.text(answer.get("errorCode"))
    return Failure(
        category=category_of(response.status),
        code=scrubbed(code, secrets, MAX_CODE),
        message=scrubbed(fields.prose(answer.get("message")), secrets) or f"{words} {response.status}",
        http_status=response.status,
        retry_after=retry_after(response),
    )


def answer_id(response: HttpResponse) -> str | None:
    """Return the id of the card verification that a success describes; None for any other answer."""
    if response.status != 200:
        return None
    try:
        return fields.text(fields.json_object(response.body).get("id"))
    except fields.UnreadableError:
        return None


def _refused(response: HttpResponse) -> bool:
    return response.status == 401


PROVIDER: Final = Provider(
    name="afterpay",
    request=AfterpayRequest,
    account=AfterpayAccount,
    build=build,
    parse=parse,
    codes=CODES,
    access_tokens=AccessTokens(build=build_access_token, parse=parse_access_token, refused=_refused),
    answer_id=answer_id,
)
