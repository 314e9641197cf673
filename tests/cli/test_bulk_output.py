"""The formats in which a bulk run writes records."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cardtoken.cli.journal import Journal

RESULT: dict[str, Any] = {
    "lookup_id": "a", "task_id": "t", "provider": "opay", "account": "default", "status": "found",
    "token": {"value": "OPAY_TOKEN_a", "brand": "visa", "last4": "1111", "customer": {"name": "=cmd()", "id": None}},
    "error": None, "attempts": 1,
}  # fmt: skip


def finished(out: Path, *metadata: dict[str, str], reveal: bool = True) -> Path:
    """The output of a run whose results, last one first, had this metadata."""
    with Journal(out, {"run": "r", "reveal": reveal}) as journal:
        for line, each in reversed(list(enumerate(metadata, 1))):
            journal.add(line, {**RESULT, "metadata": each})
        journal.finish()
    return out


def rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.mark.parametrize(("name", "delimiter"), [("out.csv", ","), ("out.TSV", "\t")])
def test_metadata_has_columns_where_it_is_revealed(tmp_path: Path, name: str, delimiter: str) -> None:
    first, second = rows(finished(tmp_path / name, {"order": "17", "shop": "=north"}, {"till": "3"}), delimiter)
    assert (first["line"], first["metadata.order"], first["metadata.shop"], first["metadata.till"]) == (
        *("1", "17", "'=north"),
        "",
    )
    assert (second["line"], second["metadata.order"], second["metadata.till"]) == ("2", "", "3")
    assert second["customer_name"] == "'=cmd()"


def test_metadata_has_no_columns_where_it_is_masked(tmp_path: Path) -> None:
    [row] = rows(finished(tmp_path / "out.csv", {"order": "…"}, reveal=False))
    assert not any(name.startswith("metadata") for name in row)


def test_names_without_end_share_a_column(tmp_path: Path) -> None:
    found = rows(finished(tmp_path / "out.csv", *({f"name-{number}": "x"} for number in range(101))))
    assert [name for name in found[0] if name.startswith("metadata")] == ["metadata"]
    assert json.loads(found[5]["metadata"]) == {"name-5": "x"}


def test_json_is_a_list_and_json_lines_are_lines(tmp_path: Path) -> None:
    assert [each["line"] for each in json.loads(finished(tmp_path / "out.json", {}, {}).read_text())] == [1, 2]
    for name in ("out.jsonl", "out.ndjson"):
        text = finished(tmp_path / name, {}, {}).read_text()
        assert [json.loads(line)["line"] for line in text.splitlines()] == [1, 2]


def test_a_journal_counts_each_line_once_with_any_content(tmp_path: Path) -> None:
    head = {"run": "r", "reveal": True}
    with Journal(tmp_path / "out.jsonl", head) as journal:
        assert journal.add(1, RESULT)
        assert not journal.add(1, RESULT)
        journal.ask_again()
        journal.add(2, RESULT)
    path = tmp_path / "out.jsonl.partial"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines()[1] + b'\n\x00\x00\n{}\n{"line": 3, "st')
    with Journal(tmp_path / "out.jsonl", {**head, "run": "another"}) as journal:
        assert (len(journal), journal.counts.total(), journal.head["run"]) == (2, 2, "r")
        assert (journal.again, journal.answered_before) == (1, frozenset({1}))
        journal.add(3, RESULT)
        journal.finish()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
