"""Client credentials, access tokens and request ids: what Afterpay keeps of its callers."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections import deque

MAX_REQUEST_IDS = 200_000
MAX_TOKENS = 10_000
#: How each of them begins: so that it can be searched for where it must not be.
TOKEN_PREFIX = "simulated-access-token."  # noqa: S105 - it opens nothing


class AccessTokens:
    """Opaque access tokens, kept in the process until they expire."""

    def __init__(self, lifetime: float) -> None:
        """Issue tokens that live `lifetime` seconds."""
        self._lifetime = lifetime
        self._expiry: dict[str, float] = {}

    def issue(self) -> tuple[str, int | float]:
        """A new token and the seconds that it lives, a whole number where it is one (RFC 6749, 5.1)."""
        now = time.monotonic()
        if len(self._expiry) >= MAX_TOKENS:
            self._expiry = {token: expiry for token, expiry in self._expiry.items() if expiry > now}
        if len(self._expiry) >= MAX_TOKENS:
            del self._expiry[next(iter(self._expiry))]
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._expiry[token] = now + self._lifetime
        return token, int(self._lifetime) if self._lifetime == int(self._lifetime) else self._lifetime

    def knows(self, token: str) -> bool:
        """Whether `token` was issued here and is neither expired nor revoked."""
        return self._expiry.get(token, 0.0) > time.monotonic()

    def revoke(self, token: str) -> None:
        """Make `token` worthless, if it is not already."""
        self._expiry.pop(token, None)


class RequestIds:
    """The request ids seen last."""

    def __init__(self, limit: int = MAX_REQUEST_IDS) -> None:
        """Remember `limit` ids."""
        self._limit = limit
        self._seen: set[str] = set()
        # A set has no order, and taking the oldest key of a large dict again and again is slow.
        self._order: deque[str] = deque()

    def add(self, request_id: str) -> bool:
        """Remember `request_id`; False when it was seen before."""
        if request_id in self._seen:
            return False
        self._seen.add(request_id)
        self._order.append(request_id)
        if len(self._order) > self._limit:
            self._seen.remove(self._order.popleft())
        return True


def basic_credentials(authorization: str) -> tuple[str, str]:
    """Identifier and secret of an `Authorization: Basic` header (RFC 7617); both empty when it is none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    identifier, _, secret = decoded.partition(":")
    return identifier, secret
