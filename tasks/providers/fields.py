"""Reading a provider's fields: tolerant of how a value is written, strict about what it says.

Each function returns None for what is absent, of another kind or out of bounds; nothing is guessed.
"""

import json
import re
import time
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from cardtoken.contract import Brand, Funding
from tasks.providers.brands import brand_of, funding_of
from tasks.providers.countries import country_of

#: A number as JSON writes it. Decimal itself reads more: ``1_000``, ``١٢``, ``NaN``.
_NUMBER = re.compile(r"-?\d+(\.\d+)?([Ee][+-]?\d+)?", re.ASCII)
_MONTH = re.compile(r"0[1-9]|1[0-2]", re.ASCII)
_YEAR = re.compile(r"\d{2}(\d{2})?", re.ASCII)
#: A credit limit of more digits is not a credit limit.
_MAX_DIGITS = 30
#: A name or a word beyond this many characters is none.
_MAX_TEXT = 1024

#: No card that is stored today expired earlier; two digits can say no later year.
_EXPIRY_YEARS = range(2010, 2100)
#: Card tokens are no older than this; a time that is earlier was written in another unit or another way.
_FIRST_TOKENS = datetime(2010, 1, 1, tzinfo=UTC).timestamp()
#: Seconds that a provider's clock may be ahead of this one.
_CLOCK_SKEW = 86_400


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


#: Made once: ``json.loads`` would make one each time. Not strict: some write tabs and line breaks into texts as such.
_DECODER = json.JSONDecoder(strict=False, parse_float=Decimal, parse_constant=_no_constant)
#: What stands around the JSON of some: white space, a byte order mark, the NUL that ends a text in C.
_AROUND = " \t\r\n\0\ufeff"


class UnreadableError(ValueError):
    """The body is not a JSON object."""


def json_object(body: bytes) -> dict[str, object]:
    """The JSON object in a body, numbers with a fraction as Decimal; raises :class:`UnreadableError`.

    JSON between systems is UTF-8 (RFC 8259, section 8.1), with any charset parameter; UTF-16 and UTF-32 show in
    the first bytes.
    """
    try:
        value = _DECODER.decode(body.decode(json.detect_encoding(body)).strip(_AROUND))
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
    """Return a text of any length; the caller cuts it."""
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


def expiry(year: object, month: object) -> tuple[int, int] | tuple[None, None]:
    """The year and the month in which a card expires: both, or neither.

    A year has two digits or four, a month two; a month that is a number has lost its zero. A year of two digits is in
    this century, as on the card.
    """
    written = text(month)
    if isinstance(month, int) and written:
        written = written.zfill(2)
    if not written or not _MONTH.fullmatch(written):
        return None, None
    found = text(year)
    if not found or not _YEAR.fullmatch(found):
        return None, None
    number = int(found) if len(found) == 4 else 2000 + int(found)
    return (number, int(written)) if number in _EXPIRY_YEARS else (None, None)


def unix_time(value: object) -> datetime | None:
    """A moment in the years of card tokens: seconds or milliseconds since 1970, as a number or as text."""
    number = _number(value)
    # Beyond so many digits there is no calendar, and the whole number would take minutes to write out.
    if number is None or number.adjusted() > _MAX_DIGITS:
        return None
    latest = time.time() + _CLOCK_SKEW
    for seconds in (number, number / 1000):
        if _FIRST_TOKENS <= seconds <= latest:
            return datetime.fromtimestamp(int(seconds), UTC)
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
    """The card's scheme; ``unknown`` for a name that says none."""
    found = text(value)
    return None if found is None else brand_of(found)


def funding(value: object) -> Funding | None:
    """Credit, debit or prepaid; ``unknown`` for a word that says none of them."""
    found = text(value)
    return None if found is None else funding_of(found)


def country(value: object) -> str | None:
    """ISO 3166-1 alpha-2 of a country's code (two letters, three, or its number) or English name."""
    found = text(value)
    return country_of(found) if found else None
