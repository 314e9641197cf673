"""Is this queue entry one of our messages? Decided here, before kombu or Celery sees anything of it.

Pure: bytes in, a message or the reason why it is none out. The reasons are words of this service; nothing of the
entry is quoted in them.
"""

import base64
import binascii
import bz2
import json
import lzma
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from celery.utils.time import maybe_iso8601
from pydantic import ValidationError

from cardtoken.contract import MAX_REQUESTS, REPLAY_OF
from tasks.broker.delivery import MOST_RETRIES
from tasks.lookups.carried_state import RetryState

#: A task id longer than this, or with characters that are not printed, is not a client's.
_MAX_ID = 255
_CONTENT_TYPE: Final = "application/json"
_CHAINING = ("callbacks", "errbacks", "chain", "chord")
#: A request holds an object of strings; what is nested deeper than this overflows the stack when it is written again.
_MAX_DEPTH = 32


class MalformedError(ValueError):
    """The entry is not a message of this service; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message that a task can take. Its repr shows nothing of what is asked for."""

    task: str
    id: str
    requests: list[object] = field(repr=False)
    retry: dict[str, Any] | None = field(default=None, repr=False)
    retries: int = 0
    eta: datetime | None = None
    expires: datetime | None = None
    priority: int = 0
    replay_of: str | None = None


def _inflate(data: bytes, limit: int) -> bytes:
    decoder = zlib.decompressobj()
    return _bounded(decoder.decompress(data, limit + 1), limit, whole=decoder.eof)


def _bunzip(data: bytes, limit: int) -> bytes:
    decoder = bz2.BZ2Decompressor()
    return _bounded(decoder.decompress(data, limit + 1), limit, whole=decoder.eof)


def _unxz(data: bytes, limit: int) -> bytes:
    decoder = lzma.LZMADecompressor(memlimit=64 << 20)
    return _bounded(decoder.decompress(data, limit + 1), limit, whole=decoder.eof)


def _bounded(data: bytes, limit: int, *, whole: bool) -> bytes:
    if len(data) > limit:
        raise MalformedError("larger than the limit once decompressed")
    if not whole:
        raise MalformedError("compressed data ends too early")
    return data


#: kombu's names of what a producer may have compressed a body with.
_DECOMPRESS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), _inflate),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), _bunzip),
    **dict.fromkeys(("application/x-lzma", "application/x-xz", "lzma", "xz"), _unxz),
}


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number that cannot be written again")
    return number


#: Made once: ``json.loads`` would make one each time.
_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def open_envelope(raw: bytes, tasks: frozenset[str], limit: int, *, deferred: bool = False) -> Envelope:
    """Read a queue entry; raises :class:`MalformedError` with the reason for the quarantine.

    ``tasks`` are the names of the tasks that there are, ``limit`` the largest body in bytes, once it is decompressed.
    ``deferred``: a worker wrote the entry; it may have grown, and carries how far its lookups have come.
    """
    entry = object_of(json_of(raw, "the entry"), "the entry")
    headers = object_of(entry.get("headers") or {}, "headers")
    body = json_of(body_of(entry, headers, sys.maxsize if deferred else limit), "the body")
    if isinstance(body, list):
        return _protocol_2(headers, body, entry, tasks, deferred=deferred)
    return _protocol_1(object_of(body, "the body"), entry, tasks, deferred=deferred)


def _protocol_2(
    headers: Mapping[str, Any], body: list[Any], entry: Mapping[str, Any], tasks: frozenset[str], *, deferred: bool
) -> Envelope:
    if len(body) != 3:
        raise MalformedError("the body is not a list of args, kwargs and embed")
    args, kwargs, embed = body
    return _envelope(
        headers, args, kwargs, object_of(embed or {}, "embed"), entry=entry, tasks=tasks, deferred=deferred
    )


def _protocol_1(
    body: Mapping[str, Any], entry: Mapping[str, Any], tasks: frozenset[str], *, deferred: bool
) -> Envelope:
    return _envelope(
        body, body.get("args") or [], body.get("kwargs"), body, entry=entry, tasks=tasks, deferred=deferred
    )


def _envelope(
    head: Mapping[str, Any],
    args: object,
    kwargs: object,
    embed: Mapping[str, Any],
    *,
    entry: Mapping[str, Any],
    tasks: frozenset[str],
    deferred: bool,
) -> Envelope:
    task, task_id = head.get("task"), head.get("id")
    if not isinstance(task, str) or not isinstance(task_id, str):
        raise MalformedError("no task or no id")
    if not _is_id(task_id):
        raise MalformedError("an id that is empty, too long or not printable")
    if task not in tasks:
        raise MalformedError("a task that is not of this service")
    if any(embed.get(name) for name in _CHAINING):
        raise MalformedError("links, chains and chords are not taken")
    if args:
        raise MalformedError("positional arguments")
    requests, retry = _requests(kwargs, {"requests", "retry"} if deferred else {"requests"})
    return Envelope(
        task=task,
        id=task_id,
        requests=requests,
        retry=retry,
        retries=_whole_number(head.get("retries"), "retries"),
        eta=_time(head.get("eta"), "eta"),
        expires=_time(head.get("expires"), "expires"),
        priority=_priority(entry),
        replay_of=replay_of if isinstance(replay_of := head.get(REPLAY_OF), str) and _is_id(replay_of) else None,
    )


def _is_id(text: str) -> bool:
    return 0 < len(text) <= _MAX_ID and text.isprintable()


def _requests(kwargs: object, names: set[str]) -> tuple[list[object], dict[str, Any] | None]:
    fields = object_of(kwargs, "kwargs")
    if "requests" not in fields or not fields.keys() <= names:
        raise MalformedError("kwargs are not exactly requests")
    requests = fields["requests"]
    if not isinstance(requests, list) or not 0 < len(requests) <= MAX_REQUESTS:
        raise MalformedError(f"requests is not a list of 1 to {MAX_REQUESTS}")
    if not _is_shallow(fields, _MAX_DEPTH):
        raise MalformedError("kwargs are nested too deep")
    retry = fields.get("retry")
    if retry is not None:
        try:
            state = RetryState.model_validate(retry)
        except ValidationError:
            raise MalformedError("the state of a retry cannot be read") from None
        if len(state.lookups) != len(requests):
            raise MalformedError("the state of a retry does not fit its requests")
    return requests, retry


def body_of(entry: Mapping[str, Any], headers: Mapping[str, Any], limit: int) -> bytes:
    content_type = entry.get("content-type")
    # "application/json; charset=utf-8" is JSON too; what it is encoded in is found out by decoding it.
    if not isinstance(content_type, str) or content_type.partition(";")[0].strip().lower() != _CONTENT_TYPE:
        raise MalformedError("a content type other than JSON")
    # Its value means nothing: kombu reads JSON as UTF-8 in any case.
    if not isinstance(entry.get("content-encoding") or "", str):
        raise MalformedError("a content encoding that is not text")
    body = entry.get("body")
    if not isinstance(body, str):
        raise MalformedError("no body")
    properties = object_of(entry.get("properties") or {}, "properties")
    match properties.get("body_encoding"):
        case None | "" | "utf-8" | "UTF-8":
            data = body.encode("utf-8", "surrogatepass")
        case "base64":
            try:
                # As kombu does it: line breaks and the like between the letters mean nothing.
                data = base64.b64decode(body.encode("utf-8", "surrogatepass"))
            except (binascii.Error, ValueError):
                raise MalformedError("the body is not base64") from None
        case _:
            raise MalformedError("an unknown body encoding")
    compression = headers.get("compression")
    if not compression:
        return data
    decompress = _DECOMPRESS.get(compression) if isinstance(compression, str) else None
    if decompress is None:
        raise MalformedError("an unknown compression")
    try:
        return decompress(data, limit)
    except (zlib.error, OSError, EOFError, lzma.LZMAError):
        raise MalformedError("the body cannot be decompressed") from None


def json_of(data: bytes, what: str) -> object:
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedError(f"{what} is not UTF-8") from None
    except (ValueError, RecursionError):
        raise MalformedError(f"{what} is not JSON") from None


def _is_shallow(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            return True
        level = [child for each in containers for child in (each.values() if isinstance(each, dict) else each)]
    return False


def object_of(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not an object")
    return value


def _whole_number(value: object, what: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise MalformedError(f"{what} is not a whole number")
    return value


def _priority(entry: Mapping[str, Any]) -> int:
    priority = object_of(entry.get("properties") or {}, "properties").get("priority")
    return priority if isinstance(priority, int) and not isinstance(priority, bool) and 0 <= priority <= 255 else 0


def _time(value: object, what: str) -> datetime | None:
    """Celery's times: ISO 8601 as Celery reads it, in UTC where they name no zone. What is false is none."""
    if not value:
        return None
    try:
        time = maybe_iso8601(value) if isinstance(value, str) else None
        if time is None:
            raise ValueError  # noqa: TRY301 - one way out for everything that is not a time
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise MalformedError(f"{what} is not a time") from None
