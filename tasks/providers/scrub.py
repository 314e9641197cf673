"""A provider's words, made fit to be published and logged."""

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from cardtoken.contract import MAX_ERROR_MESSAGE
from cardtoken.secret import CardToken, Secret

#: A provider's code longer than this is prose.
MAX_CODE = 64
_MASK = "***"
#: ISO/IEC 7812: a card number has up to 19 digits; people write them in groups.
_CARD_NUMBER = re.compile(r"\d(?:[ -]?\d){11,18}", re.ASCII)
# Tried where a word begins and nowhere else: a long message without an address is read once, not once a character.
_EMAIL = re.compile(r"(?<![^\s<>()\"',;:])[^\s<>()\"',;:]+@[^\s<>()\"',;:]+")
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def _spellings(value: str) -> Iterator[str]:
    """A secret as it was sent, and as URLs, forms and JSON write it; the longest ways before what they are made of."""
    encoded = {quote(value, safe=""), quote(value), quote_plus(value)}
    lower = {_ESCAPE.sub(lambda each: each[0].lower(), each) for each in encoded}
    written = {json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    yield from sorted({value, *encoded, *lower, *written}, key=len, reverse=True)


def scrubbed(
    message: str | None, secrets: Iterable[Secret | CardToken | None], limit: int = MAX_ERROR_MESSAGE
) -> str | None:
    """The message on one line, with secrets and what looks personal replaced, then cut; None if nothing is left."""
    if message is None:
        return None
    for secret in secrets:
        if secret is not None and (value := secret.get_secret_value()):
            for spelling in _spellings(value):
                message = message.replace(spelling, _MASK)
    message = _CARD_NUMBER.sub(_MASK, _EMAIL.sub(_MASK, _CONTROL.sub(" ", message))).strip()
    return (message if len(message) <= limit else message[: limit - 1] + "…") or None
