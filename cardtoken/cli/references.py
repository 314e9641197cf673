"""Reading a file of references: JSON lines, CSV with a header, or one reference a line."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from cardtoken.nearest import nearest_field
from cardtoken.providers import PROVIDERS, in_words

FIELDS: Final = {name: provider.reference_field for name, provider in PROVIDERS.items()}
_COLUMNS: Final = {*FIELDS.values(), "lookup_id", "account", "deadline"}
_METADATA: Final = "metadata."

F = TypeVar("F", bound=Callable[..., Any])


def described(function: F) -> F:
    """Fill in what a command's help says of the providers: ``{columns}`` and ``{references}``."""
    columns, references = in_words(FIELDS.values()), in_words(provider.reference for provider in PROVIDERS.values())
    function.__doc__ = (function.__doc__ or "").format(columns=columns, references=references)
    return function


class UnreadableFileError(ValueError):
    """The file is none of these; says why, and names nothing that is in its rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what it asks for, or what is wrong with it. ``line`` is where it ends in the file, counted from 1."""

    line: int
    request: dict[str, object]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A file of references. Without ``provider`` its rows say themselves which one they are of."""

    path: Path
    provider: str | None = None
    column: str | None = None
    account: str | None = None

    def rows(self) -> Iterator[Row]:
        """The rows, in order; blank lines are none. Raises UnreadableFileError."""
        readers = {".jsonl": self._json, ".ndjson": self._json, ".csv": self._csv, ".tsv": self._csv}
        read = readers.get(self.path.suffix.lower(), self._plain)
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                for row in read(file):
                    if self.account and "account" not in row.request and row.fault is None:
                        row.request["account"] = self.account
                    yield row
        except UnicodeDecodeError:
            raise UnreadableFileError(f"{self.path} is not text in UTF-8") from None
        except OSError as error:
            raise UnreadableFileError(f"{self.path} cannot be read: {error.strerror}") from None

    def _json(self, file: Iterator[str]) -> Iterator[Row]:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if isinstance(found, dict):
                yield Row(number, found)
            else:
                yield Row(number, {}, "is not a JSON object")

    def _plain(self, file: Iterator[str]) -> Iterator[Row]:
        if self.provider is None:
            raise UnreadableFileError(
                f"{self.path} has one reference a line, so say whose: --provider opay; or name it .csv or .jsonl"
            )
        for number, line in enumerate(file, 1):
            if line.strip():
                yield Row(number, {FIELDS[self.provider]: line.strip()})

    def _csv(self, file: Iterator[str]) -> Iterator[Row]:
        head = next(file, "")
        # Which of these a spreadsheet writes depends on the country that it is set to.
        delimiter = max(",;\t", key=head.count)
        names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
        self._check(names)
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for cells in rows:
                line = rows.line_num + 1
                if not any(cells):
                    continue
                if len(cells) != len(names):
                    yield Row(line, {}, f"has {len(cells)} cells where the header has {len(names)}")
                else:
                    yield Row(line, self._request(names, cells))
        except csv.Error as error:
            raise UnreadableFileError(f"{self.path}, line {rows.line_num + 1}: {error}") from None

    def _request(self, names: list[str], cells: list[str]) -> dict[str, object]:
        request: dict[str, object] = {}
        metadata: dict[str, str] = {}
        for name, cell in zip(names, cells, strict=True):
            field = FIELDS[self.provider] if self.provider and name == self.column else name
            if name.startswith(_METADATA):
                metadata[name.removeprefix(_METADATA)] = cell
            elif cell and field in _COLUMNS:
                request[field] = cell
        return {**request, "metadata": metadata} if metadata else request

    def _check(self, names: list[str]) -> None:
        if self.column is not None and (self.provider is None or self.column not in names):
            raise UnreadableFileError(f"--column needs --provider, and one of the columns: {', '.join(names)}")
        if self.column is None and not set(names) & set(FIELDS.values()):
            near = [
                f"{name} is nearly {meant}" for name in names if (meant := nearest_field(name, list(FIELDS.values())))
            ]
            raise UnreadableFileError(
                f"{self.path} has no column {in_words(FIELDS.values())}{f' ({near[0]})' if near else ''}: "
                "say which holds the references, as in --provider opay --column token"
            )

    def ignored(self) -> list[str]:
        """The columns of a CSV that ask for nothing and are not sent."""
        if self.path.suffix.lower() not in {".csv", ".tsv"}:
            return []
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            head = next(file, "")
        names = next(csv.reader([head], delimiter=max(",;\t", key=head.count)), [])
        known = {*_COLUMNS, self.column}
        unknown = [name for name in map(str.strip, names) if name not in known and not name.startswith(_METADATA)]
        near = ((name, nearest_field(name, _COLUMNS)) for name in unknown)
        return [f"{name} (did you mean {meant}?)" if meant else name for name, meant in near]
