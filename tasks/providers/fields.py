"""Reading a provider's fields: tolerant of how a value is written, strict about what it says.

Each function answers None for what is absent, of another kind or out of bounds; nothing is guessed.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache

import pycountry

from cardtoken.contract import Brand, Funding

_NOT_ALNUM = re.compile(r"[^a-z0-9]+")
#: A number as JSON writes it. Decimal itself reads more: ``1_000``, ``١٢``, ``NaN``.
_NUMBER = re.compile(r"-?\d+(\.\d+)?([Ee][+-]?\d+)?", re.ASCII)
#: A credit limit beyond this many digits is no credit limit.
_MAX_DIGITS = 30
#: A name or a word beyond this many characters is none.
_MAX_TEXT = 1024

#: Brands by the letters of what providers call them.
_BRANDS: Mapping[str, Brand] = {
    "visa": Brand.VISA,
    "visacard": Brand.VISA,
    "visadebit": Brand.VISA,
    "visacredit": Brand.VISA,
    "visaelectron": Brand.VISA,
    "mastercard": Brand.MASTERCARD,
    "master": Brand.MASTERCARD,
    "mc": Brand.MASTERCARD,
    "mastercarddebit": Brand.MASTERCARD,
    "debitmastercard": Brand.MASTERCARD,
    "amex": Brand.AMEX,
    "americanexpress": Brand.AMEX,
    "diners": Brand.DINERS,
    "dinersclub": Brand.DINERS,
    "dinersclubinternational": Brand.DINERS,
    "discover": Brand.DISCOVER,
    "discovercard": Brand.DISCOVER,
    "jcb": Brand.JCB,
    "unionpay": Brand.UNIONPAY,
    "chinaunionpay": Brand.UNIONPAY,
    "unionpayinternational": Brand.UNIONPAY,
    "cup": Brand.UNIONPAY,
    "upi": Brand.UNIONPAY,
    "maestro": Brand.MAESTRO,
    "verve": Brand.VERVE,
    "meeza": Brand.MEEZA,
    "mada": Brand.MADA,
    "eftpos": Brand.EFTPOS_AU,
    "eftposau": Brand.EFTPOS_AU,
    "eftposaustralia": Brand.EFTPOS_AU,
    "rupay": Brand.RUPAY,
    "elo": Brand.ELO,
    "troy": Brand.TROY,
}

_FUNDING: Mapping[str, Funding] = {
    "credit": Funding.CREDIT,
    "creditcard": Funding.CREDIT,
    "debit": Funding.DEBIT,
    "debitcard": Funding.DEBIT,
    "prepaid": Funding.PREPAID,
    "prepaidcard": Funding.PREPAID,
}


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


#: Made once: ``json.loads`` would make one each time.
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


class UnreadableError(ValueError):
    """The body is not a JSON object."""


def json_object(body: bytes) -> dict[str, object]:
    """The JSON object in a body, numbers with a fraction as Decimal; raises :class:`UnreadableError`.

    JSON between systems is UTF-8 (RFC 8259, section 8.1), whatever a charset parameter says.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise UnreadableError("the answer is not UTF-8 text") from None
    except (ValueError, ArithmeticError, RecursionError):
        raise UnreadableError("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise UnreadableError("the answer is not a JSON object")
    return value


def text(value: object) -> str | None:
    """A text, or a whole number as its digits."""
    found = prose(value)
    return found if found and len(found) <= _MAX_TEXT else None


def prose(value: object) -> str | None:
    """A text of any length, to be cut by whoever takes it."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    found = str(value).strip()
    # Half of a surrogate pair is JSON but no text: it could not be written as UTF-8.
    return found if found and _encodable(found) else None


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def digits(value: object, count: int) -> str | None:
    """Exactly so many digits. Anything longer could be more of a card number than may be kept."""
    found = text(value)
    return found if found and len(found) == count and found.isascii() and found.isdigit() else None


def month(value: object) -> int | None:
    """A month from 1 to 12."""
    number = _small_number(value)
    return number if number is not None and 1 <= number <= 12 else None


def year(value: object) -> int | None:
    """A year of four digits; one of two is in this century, as on the card."""
    number = _small_number(value)
    if number is None:
        return None
    if len(str(value).strip()) <= 2:
        number += 2000
    return number if 2000 <= number <= 2099 else None


def _small_number(value: object) -> int | None:
    found = text(value)
    return int(found) if found and found.isascii() and found.isdigit() and len(found) <= 4 else None


def unix_time(value: object) -> datetime | None:
    """Seconds since 1970, as a number or as text."""
    seconds = _number(value)
    # Beyond so many digits there is no calendar, and the whole number would take minutes to write out.
    if seconds is None or seconds.adjusted() > _MAX_DIGITS:
        return None
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (OverflowError, ValueError, OSError):
        return None


def amount(value: object) -> str | None:
    """A decimal amount in plain notation, with the digits the provider wrote."""
    number = _number(value)
    if number is None or abs(number.adjusted()) > _MAX_DIGITS or len(number.as_tuple().digits) > _MAX_DIGITS:
        return None
    return format(number, "f")


def _number(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    found = text(value)
    try:
        return Decimal(found) if found and _NUMBER.fullmatch(found) else None
    except InvalidOperation:  # an exponent that not even a Decimal has
        return None


def brand(value: object) -> Brand | None:
    """The card's scheme; ``unknown`` for a word that is not in the table."""
    found = text(value)
    return None if found is None else _BRANDS.get(_NOT_ALNUM.sub("", found.lower()), Brand.UNKNOWN)


def funding(value: object) -> Funding | None:
    """Credit, debit or prepaid; ``unknown`` for a word that is not in the table."""
    found = text(value)
    return None if found is None else _FUNDING.get(_NOT_ALNUM.sub("", found.lower()), Funding.UNKNOWN)


def country(value: object) -> str | None:
    """ISO 3166-1 alpha-2 of a country's code (two letters, three, or its number) or English name."""
    found = text(value)
    return _country(found) if found and len(found) <= 64 else None


@lru_cache(maxsize=1024)
def _country(name: str) -> str | None:
    try:
        return str(pycountry.countries.lookup(name).alpha_2)
    except LookupError:
        return None
