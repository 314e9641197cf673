"""Queue entries as clients of Celery push them, built without any code of the service or of Celery."""

import base64
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

FIELD = {"opay": "opay_token", "afterpay": "original_request_id"}
#: What Celery puts beside args and kwargs into a body of protocol 2.
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
#: Entries pushed in one round trip.
_CHUNK = 500


def queue_of(provider: str, lane: str) -> str:
    """Return the name of the list that holds a lane's messages."""
    return f"lookup.{provider}.{lane}"


def requests_of(provider: str, references: Iterable[str]) -> list[dict[str, str]]:
    """Return one element of ``requests`` for each reference; an OPay token may come without its prefix."""
    prefix = "OPAY_TOKEN_" if provider == "opay" else ""
    return [{FIELD[provider]: prefix + reference.removeprefix(prefix)} for reference in references]


def changed(fields: dict[str, Any], /, **changes: Any) -> dict[str, Any]:
    """Return a copy with these fields set; ``...`` leaves a field out."""
    return {name: value for name, value in {**fields, **changes}.items() if value is not ...}


def with_headers(message: dict[str, Any], /, **headers: Any) -> dict[str, Any]:
    """Return the message with these headers changed."""
    return {**message, "headers": changed(message["headers"], **headers)}


def with_properties(message: dict[str, Any], /, **properties: Any) -> dict[str, Any]:
    """Return the message with these properties changed."""
    return {**message, "properties": changed(message["properties"], **properties)}


def encoded(body: object) -> str:
    """Return a body in base64: bytes and text as they are, everything else as JSON."""
    if isinstance(body, str):
        data = body.encode("utf-8", "surrogatepass")
    else:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return base64.b64encode(data).decode()


def wrapped(body: object, headers: dict[str, Any], /, **fields: Any) -> dict[str, Any]:
    """Return a body in the least that every client of kombu puts around it, with further fields of the entry."""
    message = {
        "body": encoded(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_info": {}, "delivery_tag": str(uuid.uuid4())},
    }
    return changed(message, **fields)


def plain(
    kwargs: object,
    *,
    task: str = "lookup.opay",
    args: object = (),
    embed: object = None,
    task_id: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return an entry as the contract's page on plain pushing has it: protocol 2 with nothing but what it needs."""
    headers = {"lang": "js", "task": task, "id": task_id or str(uuid.uuid4())}
    return wrapped([args, kwargs, embed or {}], headers, **fields)


def headers_2(task: str, task_id: str) -> dict[str, Any]:
    """Return the headers of protocol 2 as Celery writes them."""
    return {
        "lang": "py",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "sandbox",
        "ignore_result": False,
    }


def body_1(task: str, task_id: str, requests: Sequence[object]) -> dict[str, Any]:
    """Return a body of protocol 1, which holds everything."""
    return {
        "task": task,
        "id": task_id,
        "args": [],
        "kwargs": {"requests": list(requests)},
        "retries": 0,
        "eta": None,
        "expires": None,
        "utc": True,
        "callbacks": None,
        "errbacks": None,
        "timelimit": [None, None],
        "taskset": None,
        "chord": None,
    }


def sent(body: object, headers: dict[str, Any], task_id: str, queue: str) -> dict[str, Any]:
    """Return a body in what Celery and kombu put around it in Python."""
    properties = {
        "correlation_id": task_id,
        "reply_to": str(uuid.uuid4()),
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    return wrapped(body, headers, properties=properties)


def entry(provider: str, task_id: str, requests: Sequence[object], *, lane: str = "bulk") -> dict[str, Any]:
    """Return an entry of protocol 2 as Celery pushes it."""
    body = [[], {"requests": list(requests)}, EMBED]
    return sent(body, headers_2(f"lookup.{provider}", task_id), task_id, queue_of(provider, lane))


def entry_1(provider: str, task_id: str, requests: Sequence[object], *, lane: str = "bulk") -> dict[str, Any]:
    """Return an entry of protocol 1 as Celery pushes it."""
    return sent(body_1(f"lookup.{provider}", task_id, requests), {}, task_id, queue_of(provider, lane))


def raw(message: object) -> bytes:
    """Return the bytes that stand in the list."""
    return json.dumps(message).encode()


def push(redis: Any, queue: str, entries: Sequence[bytes]) -> None:
    """LPUSH the entries, in their order."""
    for start in range(0, len(entries), _CHUNK):
        redis.lpush(queue, *entries[start : start + _CHUNK])
