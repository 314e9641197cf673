"""Queue entries as any Celery client pushes them, stock kombu included."""

import base64
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

FIELD = {"opay": "opay_token", "afterpay": "original_request_id"}
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
#: Entries pushed in one round trip.
_CHUNK = 500


def queue_of(provider: str, lane: str) -> str:
    """The list that holds a lane's messages."""
    return f"lookup.{provider}.{lane}"


def requests_of(provider: str, references: Iterable[str]) -> list[dict[str, str]]:
    """One element of ``requests`` for each reference."""
    prefix = "OPAY_TOKEN_" if provider == "opay" else ""
    return [{FIELD[provider]: prefix + reference} for reference in references]


def body_1(provider: str, task_id: str, requests: Sequence[object]) -> dict[str, Any]:
    """The body of protocol 1, which holds everything."""
    kwargs = {"requests": list(requests)}
    return {
        "task": f"lookup.{provider}",
        "id": task_id,
        "args": [],
        "kwargs": kwargs,
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


def entry(provider: str, task_id: str, requests: Sequence[object], *, lane: str = "bulk") -> dict[str, Any]:
    """An entry of protocol 2."""
    body = [[], {"requests": list(requests)}, _EMBED]
    headers = {
        "lang": "py",
        "task": f"lookup.{provider}",
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
        "origin": "soak",
        "ignore_result": False,
    }
    return wrapped(body, headers, task_id, queue_of(provider, lane))


def entry_1(provider: str, task_id: str, requests: Sequence[object], *, lane: str = "bulk") -> dict[str, Any]:
    """An entry of protocol 1."""
    return wrapped(body_1(provider, task_id, requests), {}, task_id, queue_of(provider, lane))


def wrapped(body: object, headers: dict[str, Any], task_id: str, queue: str) -> dict[str, Any]:
    """A body in what kombu puts around it."""
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid.uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def raw(message: object) -> bytes:
    """As it stands in the list."""
    return json.dumps(message).encode()


def push(redis: Any, queue: str, entries: Sequence[bytes]) -> None:
    """LPUSH them, in their order."""
    for start in range(0, len(entries), _CHUNK):
        redis.lpush(queue, *entries[start : start + _CHUNK])
