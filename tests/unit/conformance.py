"""What the conformance suite knows of each provider: a success of its pages, or else one of its simulator.

All else is made from the provider's own models: a new provider needs nothing here.
"""

from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote

import pytest

from cardtoken.secret import CardToken, Secret
from simulator.app import PROVIDERS as SIMULATED
from simulator.cards import card_of
from tasks.providers import PROVIDERS
from tasks.providers.provider import Account, Provider, Query

REFERENCE = "REFERENCE/8456732415 6665+canary"
ACCESS_TOKEN = "eyJhbGciOiJIUzI1NiJ9.access-token-canary"
HOST = "https://gateway.example.com:8443/base"


@dataclass(frozen=True)
class Sample:
    """The provider's own answer to a success, and what in it names the token."""

    body: Any
    #: The keys that lead to the card token in the body; None where the body has none: the reference is the card token.
    token: tuple[str, ...] | None
    #: Whether the provider says the reference that was asked for: then no other may be found.
    echoes: bool


SUCCESSES = {
    "opay": Sample(
        {
            "code": "00000",
            "message": "SUCCESSFUL",
            "data": {
                "opayToken": REFERENCE,
                "brand": "VISA",
                "expiryYear": "26",
                "expiryMonth": "02",
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
        },
        token=("data", "opayToken"),
        echoes=True,
    ),
    "afterpay": Sample(
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
            "country": "AU",
        },
        token=("token",),
        echoes=False,
    ),
}


def success_of(provider: Provider[Any]) -> Sample:
    """The success on the provider's own pages; of one that has none above, its simulator's."""
    if provider.name in SUCCESSES:
        return SUCCESSES[provider.name]
    (kind,) = (each for each in SIMULATED if each.name == provider.name)
    card = card_of(REFERENCE, "visa")
    body = kind().found(REFERENCE, card)
    echoed = _path_to(REFERENCE, body)
    return Sample(body, token=echoed or _path_to(card.token, body), echoes=echoed is not None)


def _path_to(value: object, body: Any) -> tuple[str, ...] | None:
    for name, each in body.items() if isinstance(body, dict) else ():
        if each == value:
            return (name,)
        if (rest := _path_to(value, each)) is not None:
            return (name, *rest)
    return None


each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def is_secret(model: type[Account], field: str) -> bool:
    annotation = model.model_fields[field].annotation
    return Secret in (annotation, *get_args(annotation))


def account_of(provider: Provider[Any], **given: Any) -> Account:
    """An account with every mandatory field and the base URL."""
    model = provider.account
    values = {
        name: f"canary-{name}-0123456789abcdef" for name, info in model.model_fields.items() if info.is_required()
    }
    account: Account = model.model_validate({**values, "base_url": HOST, **given})
    return account


def secrets_of(account: Account) -> list[str]:
    return [value.get_secret_value() for _, value in account if isinstance(value, Secret)]


def query_of(provider: Provider[Any], request_id: str = "0" * 32) -> Query[Any]:
    """A query, with an access token where the provider wants one."""
    access_token = Secret(ACCESS_TOKEN) if provider.access_tokens else None
    return Query(CardToken(REFERENCE), account_of(provider), request_id, access_token)


def confidential(query: Query[Any]) -> list[str]:
    """All that nothing may show of a query."""
    tokens = [query.access_token.get_secret_value()] if query.access_token else []
    return [REFERENCE, quote(REFERENCE, safe=""), *tokens, *secrets_of(query.account)]
