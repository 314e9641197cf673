"""Queue entries as clients of Celery push them, for tests to spoil."""

import base64
import json
from typing import Any

from tasks.broker.claims import Claim
from tasks.broker.envelope import Envelope, open_envelope

TASKS = frozenset({"lookup.opay", "lookup.afterpay"})
LIMIT = 1 << 20
CANARY = "OPAY_TOKEN_canary_4111111111111111"
GOOD = {"opay_token": CANARY}
#: What Celery puts beside args and kwargs into a body of protocol 2.
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def body(kwargs: object = None, args: object = (), embed: object = EMBED) -> str:
    """A body of protocol 2; without kwargs, one good request."""
    return json.dumps([args, {"requests": [GOOD]} if kwargs is None else kwargs, embed])


def message(text: str | bytes | None = None, /, **changes: Any) -> dict[str, Any]:
    """A message of protocol 2 as Celery pushes it, with fields of the entry changed; ``...`` leaves one out."""
    data = text if isinstance(text, bytes) else (body() if text is None else text).encode("utf-8", "surrogatepass")
    entry = {
        "body": base64.b64encode(data).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "lookup.opay", "id": "6a1b", "retries": 0, "eta": None, "expires": None},
        "properties": {
            "correlation_id": "6a1b",
            "delivery_info": {"exchange": "", "routing_key": "lookup.opay.bulk"},
            "delivery_mode": 2,
            "delivery_tag": "9f",
            "body_encoding": "base64",
            "priority": 0,
        },
        **changes,
    }
    return _without_dots(entry)


def _without_dots(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not ...}


def with_headers(text: str | bytes | None = None, /, **headers: Any) -> dict[str, Any]:
    """The same with fields of the headers changed."""
    return message(text, headers=_without_dots({**message()["headers"], **headers}))


def with_properties(text: str | bytes | None = None, /, **properties: Any) -> dict[str, Any]:
    """The same with fields of the properties changed."""
    return message(text, properties=_without_dots({**message()["properties"], **properties}))


def protocol_1(**changes: Any) -> dict[str, Any]:
    """A message of protocol 1, all of it in the body, with fields of the body changed; ``...`` leaves one out."""
    content = {
        "task": "lookup.opay",
        "id": "6a1b",
        "args": [],
        "kwargs": {"requests": [GOOD]},
        "retries": 0,
        "eta": None,
        "expires": None,
        "utc": True,
        "callbacks": None,
        "errbacks": None,
        "timelimit": [None, None],
        "taskset": None,
        "chord": None,
        **changes,
    }
    return message(json.dumps(_without_dots(content)), headers={})


def opened(entry: object, limit: int = LIMIT, *, deferred: bool = False) -> Envelope:
    """The envelope of an entry, given as bytes or as what is to become JSON."""
    data = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
    return open_envelope(data, TASKS, limit, deferred=deferred)


def claim_of(data: bytes) -> Claim:
    """An entry in a worker's hands, for the first time."""
    return Claim("claim-1", "lookup.opay.bulk", 0, 1, 0.0, deferred=False, size=len(data), entry=data)
