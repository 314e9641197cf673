"""A locale that knows ASCII alone, and standard streams that are closed or full, stop nothing."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from sandbox.environment import ROOT
from sandbox.messages import requests_of
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


#: The streams of a worker, and the queue that it alone takes from.
STREAMS = [
    ("<&- >&- 2>&-", "lookup.opay.interactive"),
    (">/dev/full 2>/dev/full", "lookup.opay.bulk"),
    (">&- 2>/dev/full", "lookup.afterpay.bulk"),
]


def test_workers_work_and_end_with_closed_and_with_full_streams(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        workers = []
        try:
            for number, (streams, queue) in enumerate(STREAMS):
                command = (
                    f"exec {sys.executable} -m celery -A tasks worker -l INFO -n w{number}@test -Q {queue} {streams}"
                )
                workers.append(subprocess.Popen(["/bin/sh", "-c", command], cwd=ROOT, env=service.environment))
            for worker, (streams, queue) in zip(workers, STREAMS, strict=True):
                _, provider, lane = queue.split(".")
                sent = service.send(provider, requests_of(provider, [f"visa~{lane}", f"timeout-1~{lane}"]), lane=lane)
                results = service.results(sent, 2, timeout=40)
                assert [result["status"] for result in results] == ["found"] * 2, streams
                worker.terminate()
                assert worker.wait(20) == 0, streams
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def test_the_command_line_works_where_its_streams_are_closed(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        with service.worker():
            env = environment(server.url)
            until(lambda: True if service.redis.exists("lookup:workers") else None)
            commands = [
                (f"{sys.executable} -m cardtoken health {host} {streams}", status)
                for streams in ("<&- >&- 2>&-", ">&-", "2>&-")
                for host, status in (("", 0), ("--host x", 1))
            ]
            # Together: they wait more than they work.
            with ThreadPoolExecutor(len(commands)) as threads:
                done = threads.map(lambda each: shell(each[0], env), commands)
            for ended, (command, status) in zip(done, commands, strict=True):
                assert ended.returncode == status, command
