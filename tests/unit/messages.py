"""Queue entries as clients of Celery push them, for tests to spoil, and what the service reads in them."""

import json
from typing import Any

from sandbox import messages
from sandbox.messages import EMBED, body_1, changed
from tasks.broker.claims import Claim
from tasks.broker.envelope import Envelope, open_envelope

TASKS = frozenset({"lookup.opay", "lookup.afterpay"})
LIMIT = 1 << 20
CANARY = "OPAY_TOKEN_canary_4111111111111111"
GOOD = {"opay_token": CANARY}
_TASK, _ID = "lookup.opay", "6a1b"


def body(kwargs: object = None, args: object = (), embed: object = EMBED) -> str:
    """Return a body of protocol 2; without kwargs, one good request."""
    return json.dumps([args, {"requests": [GOOD]} if kwargs is None else kwargs, embed])


def message(content: str | bytes | None = None, /, **changes: Any) -> dict[str, Any]:
    """Return a message of protocol 2 as Celery pushes it, with fields of the entry changed."""
    headers = messages.headers_2(_TASK, _ID)
    sent = messages.sent(body() if content is None else content, headers, _ID, f"{_TASK}.bulk")
    return changed(messages.with_properties(sent, delivery_tag="9f", reply_to=...), **changes)


def with_headers(content: str | bytes | None = None, /, **headers: Any) -> dict[str, Any]:
    """Return the same with fields of the headers changed."""
    return messages.with_headers(message(content), **headers)


def with_properties(content: str | bytes | None = None, /, **properties: Any) -> dict[str, Any]:
    """Return the same with fields of the properties changed."""
    return messages.with_properties(message(content), **properties)


def protocol_1(**changes: Any) -> dict[str, Any]:
    """Return a message of protocol 1, all of it in the body, with fields of the body changed."""
    return message(json.dumps(changed(body_1(_TASK, _ID, [GOOD]), **changes)), headers={})


def opened(entry: object, limit: int = LIMIT, *, deferred: bool = False) -> Envelope:
    """Return the envelope of an entry, given as bytes or as what is to become JSON."""
    data = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
    return open_envelope(data, TASKS, limit, deferred=deferred)


def claim_of(data: bytes) -> Claim:
    """Return an entry in a worker's hands, for the first time."""
    return Claim("claim-1", "lookup.opay.bulk", 0, 1, 0.0, deferred=False, size=len(data), entry=data)
