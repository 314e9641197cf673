"""Reads the entries of result queues, in the forms that its versions and both protocols have."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from cardtoken.contract import SCHEMA_VERSION, LookupResult
from cardtoken.errors import UnreadableResultError

#: An entry's id, and its fields; None for one that was trimmed away after it had been delivered.
Entry = tuple[str, dict[bytes, bytes] | None]


def of_one_stream(answer: Any) -> list[Entry]:
    """The entries in an answer to ``XREAD`` or ``XREADGROUP`` that asks for one stream."""
    if not answer:
        return []
    [entries] = answer.values() if isinstance(answer, Mapping) else [found for _, found in answer]
    return _entries(entries)


def claimed(answer: Any) -> tuple[str, list[Entry], bool]:
    """What ``XAUTOCLAIM`` answers: where to go on (``0-0`` at the end), the entries, and whether some are gone.

    Redis 6.2 has two parts and puts null where an entry is gone; later ones put the ids of those into a third part,
    and forget them.
    """
    cursor, entries = answer[0], answer[1]
    present = [entry for entry in entries if entry is not None]
    return cursor.decode(), _entries(present), len(present) < len(entries)


def _entries(raw: Iterable[Any]) -> list[Entry]:
    return [
        (name.decode(), None if fields is None else dict(zip(fields[::2], fields[1::2], strict=True)))
        for name, fields in raw
    ]


def read_result(fields: Mapping[bytes, bytes]) -> LookupResult:
    """The result in an entry. Raises UnreadableResultError, which shows nothing of it."""
    text = fields.get(b"result", b"")
    try:
        result = LookupResult.from_json(text)
    except ValidationError:
        version = _schema_version(text)
    else:
        if result.schema_version <= SCHEMA_VERSION:
            return result
        version = result.schema_version
    if version > SCHEMA_VERSION:
        fix = f"this version of cardtoken reads {SCHEMA_VERSION}, install a later one"
        raise UnreadableResultError(f"a result of schema version {version}: {fix}", newer=True)
    raise UnreadableResultError("not a result: something else writes to this result queue", newer=False)


def _schema_version(text: bytes) -> int:
    """Return the schema version of an object that is not a result of this version; 0 where it has none."""
    try:
        result = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    version = result.get("schema_version") if isinstance(result, dict) else None
    return version if isinstance(version, int) else 0
