"""A provider's words, made fit to be published and logged."""

import re
from collections.abc import Iterable
from urllib.parse import quote

from cardtoken.contract import MAX_ERROR_MESSAGE
from cardtoken.secret import CardToken, Secret

_MASK = "***"
#: ISO/IEC 7812: a card number has up to 19 digits; people write them in groups.
_CARD_NUMBER = re.compile(r"\d(?:[ -]?\d){11,18}", re.ASCII)
_EMAIL = re.compile(r"[^\s<>()\"',;:]+@[^\s<>()\"',;:]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


def scrubbed(message: str | None, secrets: Iterable[Secret | CardToken | None]) -> str | None:
    """The message on one line, cut to what a result may carry, with secrets and what looks personal replaced."""
    if message is None:
        return None
    for secret in secrets:
        if secret is not None and (value := secret.get_secret_value()):
            message = message.replace(value, _MASK).replace(quote(value, safe=""), _MASK)
    message = _CARD_NUMBER.sub(_MASK, _EMAIL.sub(_MASK, _CONTROL.sub(" ", message)))
    return message if len(message) <= MAX_ERROR_MESSAGE else message[: MAX_ERROR_MESSAGE - 1] + "…"
