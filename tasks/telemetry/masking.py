"""What may be shown of a message: how many lookups, and for whom. Never a token, a reference or metadata."""

from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from cardtoken.contract import DEFAULT, LookupId, QueueName

_ID = TypeAdapter(LookupId)
_NAME = TypeAdapter(QueueName)
_SHOWN_IDS = 3


def describe(provider: str, requests: Sequence[object]) -> str:
    """One line about the requests of a message, such as ``3 lookups · opay · default · ids a, b, c``."""
    count = f"{len(requests)} lookup{'s' if len(requests) != 1 else ''}"
    named = (_valid(_NAME, request, "account", DEFAULT) for request in requests)
    accounts = sorted({name for name in named if name})
    parts = [count, provider, ", ".join(accounts[:_SHOWN_IDS])]
    ids = [found for request in requests[: _SHOWN_IDS + 1] if (found := _id(request))]
    if ids:
        parts.append("ids " + ", ".join(ids[:_SHOWN_IDS]) + (", …" if len(requests) > _SHOWN_IDS else ""))
    return " · ".join(part for part in parts if part)


def _id(request: object) -> str | None:
    """The request's id, unless its producer made it of what is asked about, or of anything else that is in it."""
    found = _valid(_ID, request, "lookup_id", None)
    if found is None or not isinstance(request, dict):
        return None
    others = (value for name, value in request.items() if name not in {"lookup_id", "account", "reply_to"})
    return None if any(isinstance(value, str) and value and value in found for value in others) else found


def _valid(kind: TypeAdapter[str], request: object, field: str, otherwise: str | None) -> str | None:
    value = request.get(field, otherwise) if isinstance(request, dict) else None
    try:
        return kind.validate_python(value, strict=True)
    except ValidationError:
        return None
