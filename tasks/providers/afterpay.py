"""Afterpay PayNow: retrieve card token, ``GET /v1/cards/verification?originalRequestId=…``.

Its pages publish neither an error body nor a list of codes: the HTTP status decides, and code and message are kept
where a JSON body has them, as those of Afterpay's other APIs do.
"""

import base64
import platform
from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlencode

import pycountry
from pydantic import AfterValidator, Field

from cardtoken.contract import Category, TokenRecord
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Answer, Failure, Found, NotFound, Outcome, Verdict
from tasks.providers import fields
from tasks.providers.error_bodies import speaks_of_a_path
from tasks.providers.provider import AccessToken, AccessTokens, Account, BaseUrl, Key, Provider, Query
from tasks.providers.statuses import STATUSES, category_of, failure_of, is_success, no_such_url, protocol_failure

UAT: Final = "https://api-uat.payments.paynow.afterpaytouch.dev"
_AUTH_PATH = "/oauth2/token"
_PATH = "/v1/cards/verification"

#: By HTTP status; one that is not here is judged by its class. 404 with Afterpay's JSON is the answer for a reference
#: that it does not know.
CODES: Final[Mapping[str, Verdict]] = {
    **{str(status): category for status, category in STATUSES.items()},
    "200": Answer.FOUND,
    "404": Answer.NOT_FOUND,
}
#: At the token endpoint: what passes by itself, of the statuses that blame the client.
_PASSING_AT_THE_TOKEN_ENDPOINT = frozenset({408, 425, 429})
#: OAuth's errors that are the server's own (RFC 6749, section 4.1.2.1), where they come with a status of success.
_SERVERS_ERRORS = frozenset({"server_error", "temporarily_unavailable"})

#: Seconds that an access token is taken to hold where the answer does not say.
_UNSAID_LIFETIME = 60.0

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
            "Authorization": f"Basic {_basic(account).get_secret_value()}",
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": account.user_agent,
        },
        body=urlencode({"grant_type": "client_credentials"}).encode(),
    )


def _credentials(account: AfterpayAccount) -> tuple[Secret, ...]:
    return (account.client_secret, _basic(account), Secret(account.client_id))


def _basic(account: AfterpayAccount) -> Secret:
    pair = f"{account.client_id}:{account.client_secret.get_secret_value()}"
    return Secret(base64.b64encode(pair.encode()).decode())


def parse_access_token(response: HttpResponse, account: AfterpayAccount) -> AccessToken | Failure:
    """The access token and the seconds that it holds; where ``expires_in`` says nothing of use, it holds a minute.

    A refusal is ``authentication`` by any name: RFC 6749 wants 401 or 400 for a wrong secret, and servers
    answer 403, 404, 405 and 415 as well. What passes by itself stays what it is.
    """
    if not is_success(response.status):
        return _no_access_token(response, account)
    try:
        answer = fields.json_object(response.body)
    except fields.UnreadableError as error:
        return protocol_failure(response, f"no access token: {error}", may_pass=True)
    token = answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token.strip():
        if (refusal := fields.text(answer.get("error"))) is not None:
            category = Category.UNAVAILABLE if refusal in _SERVERS_ERRORS else Category.AUTHENTICATION
            return failure_of(response, _credentials(account), "no access token", category)
        return protocol_failure(response, "no access token in the answer to the request for one", may_pass=True)
    seconds = fields.amount(answer.get("expires_in"))
    # Servers say -1 of what does not end; it is asked for again soon all the same.
    lifetime = _UNSAID_LIFETIME if seconds is None or float(seconds) < 0 else float(seconds)
    return AccessToken(Secret(token.strip()), lifetime)


def _no_access_token(response: HttpResponse, account: AfterpayAccount) -> Failure:
    status = response.status
    refused = 400 <= status < 500 and status not in _PASSING_AT_THE_TOKEN_ENDPOINT
    words = f"no access token: HTTP status {status}"
    if category_of(status) is Category.PROTOCOL:
        words += "; look at AFTERPAY_AUTH_URL and AFTERPAY_BASE_URL"
    category = Category.AUTHENTICATION if refused else category_of(status)
    return failure_of(response, _credentials(account), words, category)


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
            return _not_found(response, query)
        case _:
            return failure_of(response, _secrets(query))


def _secrets(query: Query[AfterpayAccount]) -> tuple[Secret | CardToken | None, ...]:
    return (query.reference, query.access_token, *_credentials(query.account))


def _not_found(response: HttpResponse, query: Query[AfterpayAccount]) -> NotFound | Failure:
    # A gateway whose backends are being exchanged answers 404 to everything: no card is gone because of that.
    try:
        if not speaks_of_a_path(fields.json_object(response.body)):
            return NotFound()
    except fields.UnreadableError:
        pass
    return no_such_url(response, _secrets(query), "Afterpay", "AFTERPAY_BASE_URL")


def _found(response: HttpResponse) -> Found | Failure:
    try:
        answer = fields.json_object(response.body)
    except fields.UnreadableError as error:
        return protocol_failure(response, str(error), may_pass=True)
    token = answer.get("token")
    if not isinstance(token, str) or fields.text(token) is None:
        # Without anything of Afterpay's it is not Afterpay that answered.
        may_pass = answer.keys().isdisjoint({"token", "id", "receiptId"})
        return protocol_failure(response, "a success without a card token", may_pass=may_pass)
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


def answer_id(response: HttpResponse) -> str | None:
    """Return the id of the card verification that a success describes; None for any other answer."""
    if response.status != 200:
        return None
    try:
        return fields.text(fields.json_object(response.body).get("id"))
    except fields.UnreadableError:
        return None


def _refused(response: HttpResponse) -> bool:
    # 403 is what gateways that check access tokens themselves say of one that has expired.
    return response.status in {401, 403}


PROVIDER: Final = Provider(
    name="afterpay",
    account=AfterpayAccount,
    build=build,
    parse=parse,
    codes=CODES,
    access_tokens=AccessTokens(build=build_access_token, parse=parse_access_token, refused=_refused),
    answer_id=answer_id,
)
