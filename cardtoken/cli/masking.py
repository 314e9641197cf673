"""What commands show of requests and results without --reveal: no whole token, no holder, no metadata."""

from typing import Any, Final

#: What of a request is not secret: the contract lets these appear anywhere.
_PLAIN: Final = {"lookup_id", "account", "reply_to", "requested_at", "deadline"}


def masked(reference: str) -> str:
    """The last four characters of a token, and none of one that is hardly longer."""
    return f"…{reference[-4:]}" if len(reference) > 8 else "…"


def masked_request(request: dict[str, Any]) -> dict[str, Any]:
    """A request as it was sent; fields that there should not be may hold anything, and are masked like tokens."""
    return {name: value if name in _PLAIN else _masked(name, value) for name, value in request.items()}


def masked_result(result: dict[str, Any]) -> dict[str, Any]:
    """A result as it was published."""
    shown = {**result, "metadata": _masked("metadata", result.get("metadata", {}))}
    token = shown.get("token")
    if isinstance(token, dict):
        value, customer = token.get("value"), token.get("customer")
        shown["token"] = {**token, "value": _masked("value", value), "customer": customer and _masked("", customer)}
    return shown


def _masked(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {key: inner and "…" for key, inner in value.items()}
    return masked(value) if isinstance(value, str) and name != "metadata" else value and "…"
