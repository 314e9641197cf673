"""``make demo`` on a small terminal, and what it and ``make up`` take from their environment."""

import re
import socket
import sys
from pathlib import Path

import pytest

from sandbox.demo import EXAMPLES
from sandbox.environment import demo_environment
from sandbox.redis_server import port_or_another
from tests.cli.terminal import Terminal
from tests.cli.terminal import environment as terminal_environment


def test_the_demo_is_read_on_80_columns_and_ends_with_the_table() -> None:
    program = [sys.executable, "-m", "sandbox.demo", "--any-ports"]
    # An account of one's own, as in the .env of a newcomer, is not what it asks with.
    env = terminal_environment("redis://127.0.0.1:1/0", OPAY_PRIVATE_KEY="one's own", LOG_FORMAT="", NO_COLOR="1")
    with Terminal(env, columns=80, program=program) as terminal:
        assert terminal.end(90) == 0, terminal.text
    lines = terminal.text.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert any(
        re.fullmatch(r"worker \| \d\d:\d\d:\d\d found     opay interactive opay-page-sample, .*", line)
        for line in lines
    )
    last_screen = [" ".join(line.split()) for line in lines[-23:]]
    for example in EXAMPLES:
        assert any(re.match(rf"{example.about} {example.ends}\b", line) for line in last_screen)
    assert any(line.startswith('{"lookup_id": "opay-page-sample"') for line in last_screen)
    assert last_screen[-1].startswith("Done in ")
    assert re.search(r"\x1b\[[\d;]*3\d", terminal.raw) is None, "NO_COLOR is set"


def test_a_port_that_is_taken_is_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        another = port_or_another(port)
        assert another not in {0, port}
    assert port_or_another(another) == another


def test_nothing_that_is_set_for_another_service_reaches_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPAY_PRIVATE_KEY", "one's own")
    monkeypatch.setenv("AFTERPAY_CLIENT_SECRET_FILE", "/run/secrets/own")
    monkeypatch.setenv("REDIS_SENTINEL_MASTER", "own")
    monkeypatch.setenv("LOG_FORMAT", "json")
    found = demo_environment("redis://127.0.0.1:6390/0", "http://127.0.0.1:8090", str(tmp_path))
    assert "own" not in [value[-3:] for name, value in found.items() if name.startswith(("OPAY", "AFTERPAY", "REDIS"))]
    assert found["LOG_FORMAT"] == "json"
