"""What a bulk run has done so far, beside its output: on disk before anything is acknowledged, read to go on."""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from cardtoken.cli import output

_FORM: Final = "cardtoken bulk 1"


class JournalError(Exception):
    """The journal cannot be used; names the way out."""


class Journal:
    """The file ``OUT.partial``: a head that says which run it is of, then one result a line, in the order they came.

    A line that says ``again`` stands where all that was missing by then was asked for under new task ids. The file is
    for one process at a time. A line that is torn or is not a result is passed over.
    """

    def __init__(self, out: Path, head: Mapping[str, object]) -> None:
        self._out = out
        self.path: Final = out.with_name(f"{out.name}.partial")
        #: Line of the input → where its result is.
        self._places: dict[int, int] = {}
        self._metadata: set[str] = set()
        self.counts: Counter[tuple[str, str]] = Counter()
        #: How often what was missing was asked for again, and which lines were answered when it was the last time.
        self.again = 0
        self._end = 0
        self.answered_before: frozenset[int] = frozenset()
        self.resumed: Final = self.path.exists()
        if out.exists() and not self.resumed:
            raise JournalError(f"{out} is there already: name another --out, or move it away")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.head: Final = self._begin({**head, "form": _FORM})
            self.sync()
            output.sync_folder(self.path)
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

    def add(self, line: int, result: Mapping[str, Any]) -> bool:
        """Keep the result of a line; its first one, however often it comes. Return whether it is new."""
        if line in self._places:
            return False
        self._note(line, self._write({"line": line, **result}), result)
        return True

    def ask_again(self) -> None:
        """Note that all that is missing now is asked for under new task ids."""
        self.again += 1
        self.answered_before = frozenset(self._places)
        self._write({"again": self.again})
        self.sync()

    def sync(self) -> None:
        """Return when all that was added is on disk, where a power failure leaves it."""
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write the output in the order of the input, whole or not at all, and remove the journal."""
        output.write(self._out, self._records(), self._metadata if self.head["reveal"] else ())
        self.path.unlink()

    def _records(self) -> Iterator[bytes]:
        with self.path.open("rb") as found:
            for _, place in sorted(self._places.items()):
                found.seek(place)
                yield found.readline()

    def _write(self, record: Mapping[str, object]) -> int:
        """Append a line; return where it begins."""
        text = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        if self._file.write(text) != len(text):
            raise JournalError(f"{self.path} cannot be written: is the disk full?")
        place, self._end = self._end, self._end + len(text)
        return place

    def _begin(self, head: dict[str, object]) -> dict[str, Any]:
        data = self._file.readline()
        if not data.endswith(b"\n"):  # new, or dead before its first line was whole
            self._file.seek(0)
            self._file.truncate()
            self._write(head)
            return head
        found = _parsed(data)
        if found is None or found.get("form") != _FORM:
            raise JournalError(f"{self.path} is not a journal of this command: move it away")
        differing = [name for name, value in head.items() if name != "run" and found.get(name) != value]
        if differing:
            raise JournalError(
                f"{self.path} is of another run ({', '.join(differing)} differ): say the same as then, "
                "or move it away to ask for everything anew"
            )
        self._end = len(data)
        for line in self._file_lines():
            self._read(line)
            self._end += len(line)
        self._file.seek(self._end)
        self._file.truncate()
        return found

    def _file_lines(self) -> Iterator[bytes]:
        """The whole lines behind the head."""
        with self.path.open("rb") as file:
            file.seek(self._end)
            for line in file:
                if line.endswith(b"\n"):
                    yield line

    def _read(self, text: bytes) -> None:
        record = _parsed(text)
        if record is None:
            return
        line, status = record.get("line"), record.get("status")
        if isinstance(record.get("again"), int):
            self.again, self.answered_before = record["again"], frozenset(self._places)
        elif isinstance(line, int) and isinstance(status, str) and line not in self._places:
            self._note(line, self._end, record)

    def _note(self, line: int, place: int, result: Mapping[str, Any]) -> None:
        self._places[line] = place
        self._metadata.update(result.get("metadata") or ())
        self.counts[result["status"], (result.get("error") or {}).get("category", "")] += 1


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
