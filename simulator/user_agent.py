"""Afterpay's rules for the User-Agent header, from the product's user-agent page."""

from __future__ import annotations

import functools
import re

CHANNELS = frozenset({"sms", "web", "msite", "app", "ivr", "autopayment"})
SERVICES = frozenset({"Auto-recharge", "Recharge", "Activation", "Shop", "Unlock"})
USER_AGENT_PARTS = ("Merchant", "Platform", "MerchantId", "Channel", "CountryCode", "System Information", "Service")


@functools.lru_cache(maxsize=256)
def user_agent_complaint(user_agent: str) -> str | None:
    """What is wrong with a User-Agent, or None: all seven parts, between semicolons, each with a value."""
    parts = dict(part.strip().partition("/")[::2] for part in user_agent.split(";"))
    for part in USER_AGENT_PARTS:
        if not parts.get(part):
            return f"User-Agent has no {part}."
    if parts["Channel"] not in CHANNELS:
        return f"User-Agent has an unknown Channel; it is one of {', '.join(sorted(CHANNELS))}."
    if parts["Service"] not in SERVICES:
        return f"User-Agent has an unknown Service; it is one of {', '.join(sorted(SERVICES))}."
    if not re.fullmatch(r"[A-Z]{2}", parts["CountryCode"]):
        return "User-Agent has a CountryCode that is not two capital letters."
    if not re.fullmatch(r"[^/]+/.+", parts["System Information"]):
        return "User-Agent has a System Information that is not a system and its version."
    return None
