"""What a bulk run has done so far, beside its output: written before anything is acknowledged, read to go on."""

import csv
import fcntl
import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

_FORM: Final = "cardtoken bulk 1"

COLUMNS: Final = (
    *("line", "lookup_id", "status", "provider", "account", "brand", "first6", "last4", "exp_month", "exp_year"),
    *("funding", "product", "issuer", "country", "credit_limit", "created_at", "value"),
    *("customer_id", "customer_name", "customer_email", "customer_phone", "transaction_id", "receipt_id"),
    *("category", "code", "message", "http_status", "retryable"),
    *("attempts", "requested_at", "completed_at", "task_id"),
)


class JournalError(Exception):
    """The journal cannot be used; names the way out."""


class Journal:
    """The file ``OUT.partial``: a head that says which run it is of, then one result a line, in the order they came.

    It is for one process at a time. A line that was being written when the process died is cut off.
    """

    def __init__(self, out: Path, head: Mapping[str, object]) -> None:
        self._out = out
        self.path: Final = out.with_name(f"{out.name}.partial")
        #: Line of the input → where its result is.
        self._places: dict[int, int] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.resumed: Final = self.path.exists()
        if out.exists() and not self.resumed:
            raise JournalError(f"{out} is there already: name another --out, or move it away")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.head: Final = self._begin({**head, "form": _FORM})
        except BlockingIOError:
            self._file.close()
            raise JournalError(f"another process writes {self.path}") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, line: int) -> bool:
        return line in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, line: int, result: Mapping[str, Any]) -> None:
        """Keep the result of a line; its first one, however often it comes."""
        if line in self._places:
            return
        text = json.dumps({"line": line, **result}, ensure_ascii=False).encode() + b"\n"
        if self._file.write(text) != len(text):
            raise JournalError(f"{self.path} cannot be written: is the disk full?")
        self._note(line, self._end, result)
        self._end += len(text)

    def finish(self) -> None:
        """Write the output in the order of the input, whole or not at all, and remove the journal."""
        writing = self._out.with_name(f"{self._out.name}.writing")
        row = _csv_row if self._out.suffix.lower() == ".csv" else _as_it_is
        with os.fdopen(os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            if row is _csv_row:
                file.write(_csv_line(COLUMNS))
            with self.path.open("rb") as found:
                for _, place in sorted(self._places.items()):
                    found.seek(place)
                    file.write(row(found.readline()))
            file.flush()
            os.fsync(file.fileno())
        writing.replace(self._out)
        self.path.unlink()

    def _begin(self, head: dict[str, object]) -> dict[str, Any]:
        data = self._file.readline()
        if not data.endswith(b"\n"):  # new, or dead before its first line was whole
            self._file.seek(0)
            self._file.truncate()
            text = json.dumps(head).encode() + b"\n"
            self._file.write(text)
            self._end = len(text)
            return head
        found: dict[str, Any] = json.loads(data)
        differing = [name for name, value in head.items() if name != "run" and found.get(name) != value]
        if differing:
            raise JournalError(
                f"{self.path} is of another run ({', '.join(differing)} differ): say the same as then, "
                "or move it away to ask for everything anew"
            )
        self._end = len(data)
        for line in iter(self._file.readline, b""):
            if not line.endswith(b"\n"):
                break
            result = json.loads(line)
            self._note(result["line"], self._end, result)
            self._end += len(line)
        self._file.seek(self._end)
        self._file.truncate()
        return found

    def _note(self, line: int, place: int, result: Mapping[str, Any]) -> None:
        self._places[line] = place
        self.counts[result["status"], (result.get("error") or {}).get("category", "")] += 1


def _as_it_is(text: bytes) -> bytes:
    return text


def _csv_row(text: bytes) -> bytes:
    result = json.loads(text)
    token, error = result.get("token") or {}, result.get("error") or {}
    customer = {f"customer_{name}": value for name, value in (token.get("customer") or {}).items()}
    flat: dict[str, Any] = {**result, **token, **customer, **error}
    return _csv_line(tuple(flat.get(column) for column in COLUMNS))


def _csv_line(cells: tuple[Any, ...]) -> bytes:
    made = io.StringIO()
    csv.writer(made).writerow(["" if cell is None else _harmless(cell) for cell in cells])
    return made.getvalue().encode()


def _harmless(cell: object) -> object:
    """What a provider wrote must not become a formula where somebody opens the file in a spreadsheet."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in set("=+-@\t\r") else cell
