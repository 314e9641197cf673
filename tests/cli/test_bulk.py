"""``cardtoken bulk``: files in, files out, and everything that can come between."""

import csv
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from sandbox.service import Service
from sandbox.waiting import until
from tests.cli.terminal import Terminal, piped, piped_each


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def references(path: Path, count: int) -> Path:
    """A file of so many, none of which was asked for before."""
    run = uuid.uuid4().hex[:8]
    path.write_text("".join(f"OPAY_TOKEN_visa~{run}-{number}\n" for number in range(count)), encoding="utf-8")
    return path


def asked(service: Service) -> int:
    """Lookups that the providers have seen."""
    return int(service.simulator.stats()["requests"].get("opay", 0))


def test_a_record_for_each_row_in_the_order_of_the_file(env: dict[str, str], tmp_path: Path) -> None:
    token = "OPAY_TOKEN_visa~0123456789"
    (tmp_path / "cards.csv").write_text(
        "opay_token,original_request_id,lookup_id,metadata.order,shop\n"
        f"{token},,first,17,north\n"
        ",visa,,,\n"
        "\n"
        "OPAY_TOKEN_not-found,,last,,\n"
    )
    done = piped(env, "bulk", str(tmp_path / "cards.csv"), "--out", str(tmp_path / "out.jsonl"))
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["        2  found", "        1  not_found"]
    assert "not sent: shop" in done.stderr
    records = written(tmp_path / "out.jsonl")
    assert [(each["line"], each["lookup_id"], each["provider"], each["status"]) for each in records] == [
        (2, "first", "opay", "found"),
        (3, "line-3", "afterpay", "found"),
        (5, "last", "opay", "not_found"),
    ]
    assert token not in (tmp_path / "out.jsonl").read_text()
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cards.csv", "out.jsonl"]


def test_a_table_for_a_spreadsheet(service: Service, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("OPAY_TOKEN_visa\n\nOPAY_TOKEN_code-20000\n")
    args = ["--provider", "opay", "--out", str(tmp_path / "out.csv"), "--reveal", "--json"]
    done = piped(env, "bulk", str(tmp_path / "tokens.txt"), *args)
    assert done.returncode == 1, "one of them failed"
    summary = json.loads(done.stdout)
    assert (summary["total"], summary["results"]) == (
        2,
        [
            {"status": "failed", "category": "rejected", "count": 1},
            {"status": "found", "category": None, "count": 1},
        ],
    )
    with (tmp_path / "out.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["line"], first["value"], first["last4"]) == ("1", "OPAY_TOKEN_visa", "8332")
    assert first["customer_name"]
    assert (second["line"], second["status"], second["code"]) == ("3", "failed", "20000")
    assert not service.redis.keys("lookup:bulk:*")
    assert not service.redis.keys("token-records:bulk.*")


def test_files_of_every_kind(env: dict[str, str], tmp_path: Path) -> None:
    kinds: tuple[tuple[str, str, list[str]], ...] = (
        ("a.jsonl", '{"opay_token": "OPAY_TOKEN_visa", "metadata": {"order": "1"}}\n', []),
        ("a.csv", "Number;Token\n1;OPAY_TOKEN_visa\n", ["--provider", "opay", "--column", "Token"]),
        ("a.tsv", "\ufefflookup_id\topay_token\nx\tOPAY_TOKEN_visa\n", []),
        ("a.ids", "visa\n", ["--provider", "afterpay"]),
    )
    for name, content, _ in kinds:
        (tmp_path / name).write_text(content)
    commands = [
        ["bulk", str(tmp_path / name), "--out", str(tmp_path / f"{name}.csv"), *args] for name, _, args in kinds
    ]
    for done in piped_each(env, *commands):
        assert (done.returncode, done.stdout) == (0, "        1  found\n"), [*done.args, done.stderr]


def test_killed_and_stopped_it_goes_on_and_asks_nothing_twice(
    service: Service, env: dict[str, str], tmp_path: Path
) -> None:
    count = 1_200
    source, out = references(tmp_path / "cards.txt", count), tmp_path / "out.jsonl"
    command = ["bulk", str(source), "--provider", "opay", "--out", str(out)]
    before = asked(service)
    service.simulator.behave(latency=0.1)
    try:
        with Terminal(env, *command) as terminal:
            terminal.until(r"looking up .* [1-9]\d\d/1200 .*\d+/s .* left")
            terminal.process.send_signal(signal.SIGKILL)
            assert terminal.end() == -signal.SIGKILL
        with Terminal(env, *command) as terminal:
            terminal.until(r"Going on: [\d,]+ of 1,200")
            terminal.until(r"[5-9]\d\d/1200")
            terminal.press_ctrl_c()
            assert terminal.end() == 130
            assert "the same command goes on" in terminal.text
            assert "Traceback" not in terminal.text
        assert not out.exists()
    finally:
        service.simulator.behave(latency=0)
    done = piped(env, *command)
    assert (done.returncode, done.stdout) == (0, "    1,200  found\n"), done.stderr
    assert [record["line"] for record in written(out)] == list(range(1, count + 1))
    assert asked(service) - before == count
    assert not out.with_name("out.jsonl.partial").exists()


def test_a_torn_journal_costs_one_line(service: Service, env: dict[str, str], tmp_path: Path) -> None:
    """As a full disk or a power cut leaves it; the result that was torn had not been acknowledged."""
    source, out = references(tmp_path / "cards.txt", 300), tmp_path / "out.jsonl"
    command = ["bulk", str(source), "--provider", "opay", "--out", str(out)]
    journal = tmp_path / "out.jsonl.partial"
    service.simulator.behave(latency=0.2)
    try:
        with Terminal(env, *command) as terminal:
            until(lambda: True if journal.exists() and journal.read_bytes().count(b"\n") > 2 else None)
            terminal.process.send_signal(signal.SIGSTOP)
            terminal.process.kill()
            terminal.end()
    finally:
        service.simulator.behave(latency=0)
    kept = journal.read_bytes()
    journal.write_bytes(kept + b'{"line": 299, "sta')
    done = piped(env, *command)
    assert (done.returncode, done.stdout) == (0, "      300  found\n"), done.stderr
    assert [record["line"] for record in written(out)] == list(range(1, 301))


@pytest.mark.parametrize("loss", ["results trimmed", "queue deleted", "journal spoilt"])
def test_a_resumed_run_ends_though_something_is_lost(
    service: Service, env: dict[str, str], tmp_path: Path, loss: str
) -> None:
    """Results that were trimmed or expired, and the last lines of a journal that a power failure took."""
    source, out = references(tmp_path / "cards.txt", 60), tmp_path / "out.jsonl"
    command = ["bulk", str(source), "--provider", "opay", "--out", str(out)]
    before = asked(service)
    stream = answered_and_killed(service, env, command, out, 60)
    journal = out.with_name("out.jsonl.partial")
    head = journal.read_bytes()
    lines = [
        json.dumps({"line": int(result["lookup_id"].removeprefix("line-")), **result}).encode() + b"\n"
        for result in (json.loads(entry["result"]) for entry in service.entries(stream))
    ]
    # All are acknowledged, as far as Redis knows.
    service.redis.xgroup_destroy(stream, f"bulk-{json.loads(head)['run']}")
    service.redis.xgroup_create(stream, f"bulk-{json.loads(head)['run']}", id="$")
    journal.write_bytes(head + b"".join(lines[:10]))
    match loss:
        case "results trimmed":
            service.redis.xtrim(stream, maxlen=0)
        case "queue deleted":
            service.redis.delete(stream)
        case _:
            spoilt = [lines[0], b"\x00" * 40 + b"\n", b"[]\n", b'{"line": "x"}\n', lines[10], b'{"line": 59, "sta']
            journal.write_bytes(journal.read_bytes() + b"".join(spoilt))
    done = piped(env, *command, *["--again"] * (loss == "queue deleted"))
    if loss == "results trimmed":
        assert (done.returncode, done.stdout) == (6, "")
        assert "50 of 60 have no result" in done.stderr
        missing = out.with_name("out.jsonl.missing")
        assert len(missing.read_text().splitlines()) == 50
        done = piped(env, *command, "--again")
    assert (done.returncode, done.stdout) == (0, "       60  found\n"), done.stderr
    assert [record["line"] for record in written(out)] == list(range(1, 61))
    assert asked(service) - before == (60 if loss.startswith("journal") else 110)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cards.txt", "out.jsonl"]


def answered_and_killed(service: Service, env: dict[str, str], command: list[str], out: Path, count: int) -> str:
    """Let a run be killed when it has asked for all; return its result queue once all are answered."""
    service.simulator.behave(latency=0.5)
    try:
        with Terminal(env, *command) as terminal:
            [key] = until(lambda: service.redis.keys("lookup:bulk:*") or None)
            terminal.process.kill()
            terminal.end()
    finally:
        service.simulator.behave(latency=0)
    stream = f"token-records:bulk.{key.decode().removeprefix('lookup:bulk:')}"
    until(lambda: True if service.redis.xlen(stream) == count else None)
    return stream


def test_rows_that_cannot_be_asked_for_are_named_before_anything_is(
    service: Service, env: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "cards.jsonl"
    good, same = ({"opay_token": "OPAY_TOKEN_visa", "lookup_id": "a"} for _ in range(2))
    rows: list[Any] = [good, {"opay_token": 5}, [], same]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = asked(service)
    done = piped(env, "bulk", str(source), "--out", str(tmp_path / "out.jsonl"))
    assert (done.returncode, done.stdout) == (2, "")
    for line in ("line 2: ", "line 3: is not a JSON object", "line 4: lookup_id", "--skip-invalid"):
        assert line in done.stderr
    assert asked(service) == before
    assert list(tmp_path.iterdir()) == [source]
    done = piped(env, "bulk", str(source), "--out", str(tmp_path / "out.jsonl"), "--skip-invalid")
    assert (done.returncode, done.stdout.splitlines()) == (0, ["        1  found", "        3  skipped"])


def test_mistakes_are_reported_before_anything_is_asked(env: dict[str, str], tmp_path: Path) -> None:
    source, out = references(tmp_path / "cards.txt", 1), tmp_path / "out.jsonl"
    good = ["bulk", str(source), "--provider", "opay"]
    (tmp_path / "none.csv").write_text("card\n4111\n")
    (tmp_path / "near.csv").write_text("opay_tokn\n4111\n")
    (tmp_path / "near.jsonl").write_text('{"opay_tokn": "4111"}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "there.jsonl").write_text("mine")
    (tmp_path / "odd.jsonl.partial").write_bytes(b"\x00\x00\n")
    (tmp_path / "other.jsonl.partial").write_text('{"form": "cardtoken bulk 1", "input": "another"}\n')
    mistakes = (
        (["bulk", str(source), "--out", str(out)], 2, "--provider opay"),
        (["bulk", str(tmp_path / "none.csv"), "--out", str(out)], 2, "--column"),
        (["bulk", str(tmp_path / "near.csv"), "--out", str(out)], 2, "opay_tokn is nearly opay_token"),
        (["bulk", str(tmp_path / "near.jsonl"), "--out", str(out)], 2, "opay_tokn: there is no such field; did you"),
        (["bulk", str(tmp_path / "empty.jsonl"), "--out", str(out)], 2, "nothing to ask for"),
        ([*good, "--out", str(tmp_path / "out.txt")], 2, ".jsonl, .ndjson, .json, .csv, .tsv"),
        ([*good, "--out", str(tmp_path / "out")], 2, ".csv"),
        ([*good, "--out", str(tmp_path / "odd.jsonl")], 2, "is not a journal"),
        ([*good, "--out", str(tmp_path / "there.jsonl")], 2, "is there already"),
        ([*good, "--out", str(tmp_path / "other.jsonl")], 2, "is of another run"),
        (["--redis-url", "redis://127.0.0.1:1/0", *good, "--out", str(out)], 5, "REDIS_URL"),
    )
    each = piped_each(env, *(args for args, _, _ in mistakes))
    for done, (_, status, says) in zip(each, mistakes, strict=True):
        assert done.returncode == status, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    assert not out.exists()
    assert (tmp_path / "there.jsonl").read_text() == "mine"
