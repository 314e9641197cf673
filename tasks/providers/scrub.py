"""A provider's words, made fit to be published and logged."""

import re
from collections.abc import Iterable
from urllib.parse import quote

from cardtoken.contract import MAX_ERROR_MESSAGE
from cardtoken.secret import CardToken, Secret

#: A provider's code longer than this is prose.
MAX_CODE = 64
_MASK = "***"
#: ISO/IEC 7812: a card number has up to 19 digits; people write them in groups.
_CARD_NUMBER = re.compile(r"\d(?:[ -]?\d){11,18}", re.ASCII)
# Tried where a word begins and nowhere else: a long message without an address is read once, not once a character.
_EMAIL = re.compile(r"(?<![^\s<>()\"',;:])[^\s<>()\"',;:]+@[^\s<>()\"',;:]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def scrubbed(
    message: str | None, secrets: Iterable[Secret | CardToken | None], limit: int = MAX_ERROR_MESSAGE
) -> str | None:
    """The message on one line, with secrets and what looks personal replaced, then cut; None if nothing is left."""
    if message is None:
        return None
    for secret in secrets:
        if secret is not None and (value := secret.get_secret_value()):
            message = message.replace(value, _MASK).replace(quote(value, safe=""), _MASK)
    message = _CARD_NUMBER.sub(_MASK, _EMAIL.sub(_MASK, _CONTROL.sub(" ", message))).strip()
    return (message if len(message) <= limit else message[: limit - 1] + "…") or None
