"""Cards made from references: the same reference always shows the same card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

# First six digits by brand, from the ranges that each scheme publishes for itself.
BRANDS: Mapping[str, str] = {
    "visa": "450875",
    "mastercard": "520473",
    "amex": "371449",
    "diners": "305693",
    "discover": "601111",
    "jcb": "353011",
    "unionpay": "621094",
    "maestro": "676770",
    "verve": "506105",
    "meeza": "507803",
    "mada": "588845",
    "eftpos": "560254",
    "rupay": "607469",
    "elo": "636368",
    "troy": "979206",
    "unknown-brand": "999999",
}

# A number that payment gateways give out for tests: no card has it, but it passes every check of a card number.
TEST_CARD_NUMBER = "4508750015741019"

_DRAWN = tuple(brand for brand in BRANDS if brand != "unknown-brand")
_NAMES = ("Amina Hassan", "Omar Farouk", "Grace Okafor", "Liam Walker", "Mia Nguyen", "Noah Silva", "Ayse Demir")
_ISSUERS = (
    ("Commonwealth Bank of Australia", "AU"),
    ("Westpac Banking Corporation", "AU"),
    ("ANZ Bank New Zealand", "NZ"),
    ("National Bank of Egypt", "EG"),
    ("Zenith Bank", "NG"),
    ("State Bank of India", "IN"),
    ("Banco do Brasil", "BR"),
)
_PRODUCTS = ("classic", "gold", "platinum", "pre-paid giftcard", "business")
_FUNDINGS = ("CREDIT", "DEBIT", "PREPAID")
_NEWEST = 1_767_225_600  # 2026-01-01: no card was tokenised later, whenever the simulator runs


@dataclass(frozen=True, slots=True)
class Card:
    """What a provider could know of a stored card; each one tells its own part of it."""

    brand: str
    first6: str
    last4: str
    expiry: tuple[str, str] | None
    """Two-digit year and month, or None where the provider does not tell."""
    created: int
    """Unix time in seconds."""
    token: str
    receipt: str
    transaction: str
    funding: str
    product: str
    issuer: str
    country: str
    credit_limit: int | None
    customer_id: str
    customer_name: str
    customer_email: str
    customer_mobile: str


def card_of(reference: str, brand: str | None = None) -> Card:
    """The card behind `reference`, of `brand` or, without one, of a brand drawn from the reference too.

    Only a card whose brand is drawn may carry an expiry (half of them do): a card asked for by its brand keeps the
    shape of the providers' samples.
    """
    digest = hashlib.blake2b(reference.encode("utf-8", "surrogatepass"), digest_size=64).digest()
    drawn = brand if brand is not None else _DRAWN[digest[0] % len(_DRAWN)]
    number = int.from_bytes(digest[1:9], "big")
    issuer, country = _ISSUERS[digest[9] % len(_ISSUERS)]
    funding = _FUNDINGS[digest[10] % len(_FUNDINGS)]
    name = _NAMES[digest[11] % len(_NAMES)]
    expires = brand is None and digest[12] % 2 == 0
    return Card(
        brand=drawn,
        first6=BRANDS[drawn],
        last4=f"{number % 10_000:04}",
        expiry=(f"{27 + digest[13] % 8}", f"{1 + digest[14] % 12:02}") if expires else None,
        created=_NEWEST - number % 150_000_000,
        token=digest[16:32].hex(),
        receipt=str(10_000 + number % 90_000),
        transaction=digest[32:52].hex(),
        funding=funding,
        product=_PRODUCTS[digest[15] % len(_PRODUCTS)],
        issuer=issuer,
        country=country,
        credit_limit=500 * (1 + digest[15] % 40) if funding == "CREDIT" else None,
        customer_id=f"{number % 1_000_000_000:09}",
        customer_name=name,
        customer_email=f"{name.lower().replace(' ', '.')}.{number % 1000}@example.com",
        customer_mobile=f"2010{number % 10_000_000:07}",
    )
