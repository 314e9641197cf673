"""The file that a bulk run writes, in the format that its name says."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

COLUMNS: Final = (
    *("line", "lookup_id", "status", "provider", "account", "brand", "first6", "last4", "exp_month", "exp_year"),
    *("funding", "product", "issuer", "country", "credit_limit", "created_at", "value"),
    *("customer_id", "customer_name", "customer_email", "customer_phone", "transaction_id", "receipt_id"),
    *("category", "code", "message", "http_status", "retryable"),
    *("attempts", "requested_at", "completed_at", "task_id"),
)
#: More names than that do not become columns: they stand as JSON in one.
_MOST_METADATA_COLUMNS: Final = 100

#: The records as JSON, a line each → the bytes of the file.
_Format = Callable[[Iterable[bytes], "list[str]"], Iterator[bytes]]


class OutputError(ValueError):
    """The output cannot be written so; names what can."""


def check_format(out: Path) -> None:
    """Raise OutputError unless the name of the file says a format that there is."""
    if out.suffix.lower() not in _FORMATS:
        raise OutputError(f"--out {out}: the name says the format; it has to end with one of {', '.join(_FORMATS)}")


def write(out: Path, records: Iterable[bytes], metadata: Iterable[str]) -> None:
    """Write records, whole or not at all, readable by its owner alone.

    ``metadata`` are the names that occur in the records' metadata, if that is to be written.
    """
    writing = out.with_name(f"{out.name}.writing")
    with os.fdopen(os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for data in _FORMATS[out.suffix.lower()](records, sorted(metadata)):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    writing.replace(out)
    sync_folder(out)


def sync_folder(path: Path) -> None:
    """Make durable that there is a file of that name."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _json_lines(records: Iterable[bytes], _: list[str]) -> Iterator[bytes]:
    yield from records


def _json_array(records: Iterable[bytes], _: list[str]) -> Iterator[bytes]:
    yield b"["
    for number, record in enumerate(records):
        yield (b",\n" if number else b"\n") + record.rstrip(b"\n")
    yield b"\n]\n"


def _table(delimiter: str) -> _Format:
    def made(records: Iterable[bytes], metadata: list[str]) -> Iterator[bytes]:
        together = len(metadata) > _MOST_METADATA_COLUMNS
        names = ["metadata"] if together else [f"metadata.{name}" for name in metadata]
        yield _line((*COLUMNS, *names), delimiter)
        for record in records:
            result = json.loads(record)
            said = result.get("metadata") or {}
            cells: Iterable[object] = (said.get(name) for name in metadata)
            if together:
                cells = [json.dumps(said, ensure_ascii=False) if said else None]
            yield _line((*_cells(result), *cells), delimiter)

    return made


def _cells(result: dict[str, Any]) -> tuple[object, ...]:
    token, error = result.get("token") or {}, result.get("error") or {}
    customer = {f"customer_{name}": value for name, value in (token.get("customer") or {}).items()}
    flat: dict[str, Any] = {**result, **token, **customer, **error}
    return tuple(flat.get(column) for column in COLUMNS)


def _line(cells: Iterable[object], delimiter: str) -> bytes:
    made = io.StringIO()
    writer = csv.writer(made, delimiter=delimiter)
    writer.writerow(["" if cell is None else _harmless(cell) for cell in cells])
    return made.getvalue().encode()


def _harmless(cell: object) -> object:
    """Return a cell that a spreadsheet does not take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in set("=+-@\t\r") else cell


_FORMATS: Final[dict[str, _Format]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_array,
    ".csv": _table(","),
    ".tsv": _table("\t"),
}
