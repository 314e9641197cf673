"""What a terminal shows fits it, with names whole, one or two lines an entry."""

import json
import time
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from rich.console import Console

from cardtoken.circuits import hold_open
from cardtoken.cli import cardtoken
from cardtoken.cli.entries import Entry
from cardtoken.contract import Lane
from cardtoken.providers import PROVIDERS
from sandbox.redis_server import RedisServer
from tests.cli.terminal import Terminal, environment

WORKER = "interactive@ip-10-0-12-34.eu-west-1.compute.internal"
LOOKUP = "eb2c2f40-1111-2222-3333-444455556666:17"
QUEUES = [f"lookup.{provider}.{lane}" for provider in ("opay", "afterpay") for lane in ("interactive", "bulk")]
#: Of providers that were added since; no worker of the test takes from them.
ADDED = [
    f"lookup.{provider}.{lane}" for provider in PROVIDERS for lane in Lane if f"lookup.{provider}.{lane}" not in QUEUES
]
WORDS = "the system is busy, please try again later " * 5
AT = "2026-01-31T12:00:00.123456Z"
COMMANDS = ["status", "dead-letters list", "quarantine list", "circuit list", "results"]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One with something long of each kind in it."""
    with RedisServer(appendonly=True) as server, redis.Redis.from_url(server.url) as client:
        fields = {"name": WORKER, "host": "h", "pid": 1, "threads": 64, "version": "0.1.0", "messages": 3, "still": 0,
                  "started_at": AT, "queues": json.dumps(QUEUES)}  # fmt: skip
        client.hset("lookup:worker:w", mapping=fields)
        client.sadd("lookup:workers", "w")
        report = {"at": time.time() - 60, "name": "vip@one", "host": "one", "queues": ["lookup.opay.vip"]}
        client.hset("lookup:workers:last-reports", "gone", json.dumps(report))
        error = {"category": "rate_limited", "code": "90", "message": WORDS, "http_status": 200, "retryable": True}
        result = {"schema_version": 1, "lookup_id": LOOKUP, "task_id": "t", "provider": "afterpay",
                  "account": "default", "status": "failed", "error": error, "attempts": 3, "requested_at": AT,
                  "completed_at": AT}  # fmt: skip
        letter = {"lookup_id": LOOKUP, "task_id": "t", "provider": "afterpay", "account": "default", "code": "90",
                  "lane": "interactive", "category": "rate_limited", "failed_at": AT, "request": "{}",
                  "result": json.dumps(result)}  # fmt: skip
        odd = {"queue": QUEUES[2], "reason": WORDS, "raw": "x" * 1234, "quarantined_at": AT}
        for _ in range(3):
            client.xadd("lookup:dead-letters", letter)
            client.xadd("lookup:quarantine", odd)
            client.xadd("token-records:default", {"result": json.dumps(result)})
        client.sadd("lookup:result-queues", "token-records:default")
        client.xgroup_create("token-records:default", "billing", id="0")
        hold_open(client, "opay", "*", seconds=4000, reason=WORDS)
        yield server


def shown(server: RedisServer, command: str, columns: int) -> list[str]:
    with Terminal(environment(server.url), *command.split(), columns=columns) as terminal:
        assert terminal.end() == 0, terminal.text
        return terminal.text.splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_eighty_columns_are_enough(server: RedisServer, command: str) -> None:
    lines = shown(server, command, 80)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    if command == "status":
        assert len(lines) <= 26 + len(ADDED), "one screen, and the long reason"
        rows = [line for line in lines if line.startswith("lookup.")]
        assert [row.split()[0] for row in rows] == [*QUEUES, *ADDED, "lookup.opay.vip"]
        assert all(len(row.split()) == 6 for row in rows)
        assert f"{WORKER}  3 of 64 messages" in text
        assert "  afterpay bulk interactive, opay bulk interactive  0.1.0  since 01-31 12:00" in lines
        return
    names = {"dead-letters list": LOOKUP, "results": LOOKUP, "quarantine list": QUEUES[2], "circuit list": "opay"}
    entries = 1 if command == "circuit list" else 3
    assert (text.count(names[command]), len(lines) <= 2 * entries) == (entries, True)


def test_sixty_columns_cut_no_name(server: RedisServer) -> None:
    lines = shown(server, "status", 60)
    assert max(map(len, lines)) <= 60
    for name in (WORKER, *QUEUES):
        assert any(name in line for line in lines)


def test_a_pipe_has_everything_on_a_line(server: RedisServer) -> None:
    for command in COMMANDS[1:]:
        done = CliRunner().invoke(cardtoken, command.split(), env={"REDIS_URL": server.url}, standalone_mode=False)
        lines = done.stdout.splitlines()
        assert len(lines) == (1 if command == "circuit list" else 3)
        assert all(WORDS.strip() in line for line in lines)


def rendered(entry: Entry, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(entry)
    written: Any = console.file
    return [line.rstrip() for line in written.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (120, ["1-0  opay  order-17  the provider said a few words"]),
        (51, ["1-0  opay  order-17  the provider said a few words"]),
        (40, ["1-0  opay", "  order-17  the provider said a few wor…"]),
        (12, ["1-0  opay", "  order-17"]),
        (6, ["1-0", "opay", "  orde", "r-17"]),
    ],
)
def test_an_entry_has_as_many_lines_as_it_needs_and_only_words_are_cut(width: int, lines: list[str]) -> None:
    entry = Entry([("1-0", "cyan"), "opay", ""], ["order-17"], "the provider said\na few words")
    assert rendered(entry, width) == lines
