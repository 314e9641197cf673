"""A locale that knows ASCII alone, and standard streams that are closed or full, stop nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.environment import ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.cli.terminal import environment

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


def shell(command: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_worker_starts_and_logs_where_the_locale_is_ascii(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        with service.worker(**ASCII, PYTHONWARNDEFAULTENCODING="1") as worker:
            sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "metadata": {"who": "مدى"}}])
            assert service.results(sent, 1)[0]["status"] == "found"
            assert worker.stop() == 0
        ours = [
            line for line in worker.lines if "EncodingWarning" in line and str(ROOT) in line and ".venv" not in line
        ]
        assert not ours
        done = shell(f"{sys.executable} -m cardtoken --help", {**environment(server.url), **ASCII})
        assert done.returncode == 0, done.stderr
        assert "OPAY_TOKEN_…" in done.stdout


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full", ">&- 2>/dev/full"])
def test_a_worker_works_and_ends_whatever_its_streams_are(simulator: Simulator, streams: str, tmp_path: Path) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        command = f"exec {sys.executable} -m celery -A tasks worker -l INFO {streams}"
        worker = subprocess.Popen(["/bin/sh", "-c", command], cwd=ROOT, env=service.environment)
        try:
            sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}, {"opay_token": "OPAY_TOKEN_timeout-1"}])
            assert [result["status"] for result in service.results(sent, 2, timeout=40)] == ["found"] * 2
            worker.terminate()
            assert worker.wait(20) == 0
        finally:
            worker.kill()
            worker.wait()


def test_the_command_line_works_where_its_streams_are_closed(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        with service.worker():
            env = environment(server.url)
            until(lambda: True if service.redis.exists("lookup:workers") else None)
            for streams in ("<&- >&- 2>&-", ">&-", "2>&-"):
                assert shell(f"{sys.executable} -m cardtoken health {streams}", env).returncode == 0, streams
                assert shell(f"{sys.executable} -m cardtoken health --host x {streams}", env).returncode == 1, streams
