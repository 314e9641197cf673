"""The last step before text leaves the process: the configured secrets are cut out of it, in every form.

Nothing is expected to reach it with a secret inside. It is there for the text of others: libraries, and exceptions.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus, urlsplit

MASK: Final = "***"
#: A shorter one would be found in half of all words.
_SHORTEST: Final = 6
#: Former secrets that are remembered.
_MOST_FORMER: Final = 100
#: Levels of lists and objects that are gone through; what is deeper is cut off.
_DEEPEST: Final = 20


class Redactor:
    """Replaces secrets in text. ``secrets`` are passwords and keys, or URLs that have a password in them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._current: tuple[str, ...] = ()
        self._former: tuple[str, ...] = ()
        self.replace(secrets)

    def replace(self, secrets: Iterable[str]) -> None:
        """Replace these in text from now on, beside the latest of those before: calls with them may be under way."""
        current = tuple(dict.fromkeys(secrets))
        former = [each for each in dict.fromkeys((*self._current, *self._former)) if each not in current]
        self._current, self._former = current, tuple(former[:_MOST_FORMER])
        forms = {form for secret in (*current, *self._former) for part in _parts(secret) for form in _forms(part)}
        # The longest first: one secret may be the beginning of another.
        pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        self._pattern = re.compile(pattern) if pattern else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def whole(self, value: Any, depth: int = 0) -> Any:
        """A JSON-like value, its keys included, without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray):
            return MASK
        if depth > _DEEPEST:
            return None
        if isinstance(value, dict):
            return {self.text(str(key)): self.whole(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.whole(each, depth + 1) for each in value]
        return value


def _parts(secret: str) -> Iterator[str]:
    """What of it is secret: of a URL its passwords, of everything else all."""
    if "://" not in secret:
        yield secret
        return
    for url in secret.split(";"):
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        # A DSN has its key where others have a user.
        yield parts.password or (parts.username or "" if parts.scheme.startswith("http") else "")


def _forms(secret: str) -> Iterator[str]:
    if len(secret) < _SHORTEST:
        return
    raw = secret.encode(errors="replace")
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield raw.hex()
    # As it stands in a longer text: without what its neighbours decide.
    for lead, shared in enumerate((0, 2, 3)):
        encoded = base64.b64encode(b"\0" * lead + raw).decode()
        yield encoded[shared : (lead + len(raw)) * 8 // 6]
