"""``make up``, as a developer uses it: started, tried, stopped by Ctrl-C."""

import re
import signal
import sys

import psutil
import requests

from cardtoken.connection import connect
from cardtoken.presence import workers
from sandbox.environment import ROOT, clean_environment
from sandbox.processes import start, wait_for_line
from tests.cli.terminal import piped


def test_make_up_runs_everything_and_says_what_to_try_next() -> None:
    lines: list[str] = []
    up = start(
        [sys.executable, "-m", "sandbox.up", "--any-ports"],
        name="up",
        cwd=ROOT,
        env=clean_environment(),
        on_line=lines.append,
    )
    try:
        url = wait_for_line(up, r"export REDIS_URL=(\S+)", 90).group(1)
        wait_for_line(up, "simulator/README.md", 10)
        env = {**clean_environment(), "REDIS_URL": url}
        commands = [line.split()[1:] for line in lines if line.strip().startswith("cardtoken ")]
        assert len(commands) == 3
        for command in commands[:2]:
            assert piped(env, *command).returncode == 0
        there = workers(connect(url))
        assert sorted(queue for worker in there for queue in worker.queues) == [
            "lookup.afterpay.bulk",
            "lookup.afterpay.interactive",
            "lookup.opay.bulk",
            "lookup.opay.interactive",
        ]
        told = re.search(r"Flower +(\S+) \(user (\w+), password (\S+)\)", "\n".join(lines))
        assert told is not None
        assert requests.get(told[1], timeout=10).status_code == 401
        assert requests.get(told[1], auth=(told[2], told[3]), timeout=10).status_code == 200
        for metrics in re.findall(r"http://\S+/metrics", "\n".join(lines)):
            assert "cardtoken_lookups_total" in requests.get(metrics, timeout=10).text
        started = psutil.Process(up.pid).children(recursive=True)
        assert len(started) >= 5
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
        assert psutil.wait_procs(started, timeout=5)[1] == []
    finally:
        up.stop()
