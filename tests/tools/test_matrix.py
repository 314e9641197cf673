"""``make matrix``: a combination is tried with the server that it names, and what is missing is said."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.environment import ROOT
from tools.matrix import pieces
from tools.matrix.combination import Combination

WITH_VALKEY_8 = """
from sandbox.redis_server import RedisServer
import redis

def test_the_server_is_a_valkey_8():
    with RedisServer() as server, redis.Redis.from_url(server.url) as connection:
        assert connection.info("server").get("valkey_version", "none").startswith("8.")
"""


@pytest.mark.tools
def test_each_server_is_the_one_that_its_tests_run_on(tmp_path: Path) -> None:
    tests = tmp_path / "test_server.py"
    tests.write_text(WITH_VALKEY_8, encoding="utf-8")
    choice = ("--redis", "redis-6.2", "valkey-8", "--tests", tests, "--jobs", "1", "--logs", tmp_path / "logs")
    done = subprocess.run(
        [sys.executable, "-m", "tools.matrix", *choice],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "-redis-6.2: FAILED, 1 failed" in done.stderr
    assert "-valkey-8: passed, 1 passed" in done.stderr
    assert "Redis 6.2." in done.stdout
    assert "test_the_server_is_a_valkey_8" in done.stdout
    (log,) = (tmp_path / "logs").iterdir()
    assert "-redis-6.2" in log.name
    assert "AssertionError" in log.read_text(encoding="utf-8")


def test_a_python_that_is_not_to_be_had_is_named_and_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "own_python", lambda: "3.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    fake = tmp_path / "python3.12"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    tried = Combination("3.12", pieces.EMBEDDED, ())
    tried.try_out(1, tmp_path, lambda _state: None)
    assert tried.passed is None
    assert tried.state.startswith("not to be had: no python3.12")
    assert str(fake) in tried.state
