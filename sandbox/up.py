"""``make up``: the whole service on this machine alone, until Ctrl-C.

A Redis-compatible server, both providers simulated, and every process of the Procfile: a worker for each lane, and
Flower. Nothing of it outlives this command, and nothing is kept.
"""

import argparse
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from sandbox.environment import ROOT, demo_environment
from sandbox.group import Processes, signals_as_ctrl_c
from sandbox.ports import Ports
from sandbox.processes import Child, ChildEndedError, wait_for_line
from sandbox.redis_server import RedisServer, ServerError


def procfile() -> dict[str, str]:
    """Name → command of each process that is deployed."""
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return dict(re.split(r":\s+", line, maxsplit=1) for line in lines if line and not line.startswith("#"))


def up(ports: Ports) -> int:
    """Run it; return the exit status."""
    password = secrets.token_urlsafe(9)
    for line in ports.taken:
        sys.stdout.write(f"{line}\n")
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(port=ports.redis, appendonly=True) as server,
        Processes(width=11) as processes,
    ):
        processes.watch(server.child)
        command = [sys.executable, "-m", "simulator", "--port", str(ports.simulator)]
        simulator = processes.start("providers", command, cwd=ROOT)
        url = wait_for_line(simulator, r"listening on (\S+)", 20).group(1)
        chosen = {
            **demo_environment(server.url, url, folder),
            "FLOWER_PORT": str(ports.flower),
            "FLOWER_BASIC_AUTH": f"demo:{password}",
            "FLOWER_DB": f"{folder}/flower/tasks",
            "FLOWER_LOGGING": "warning",
            "INTERACTIVE_METRICS_PORT": str(ports.interactive_metrics),
            "BULK_METRICS_PORT": str(ports.bulk_metrics),
        }
        for name, command_line in procfile().items():
            # Without the banners: what to type next has to stay on the screen.
            shell = ["/bin/sh", "-c", f"exec {command_line.replace('celery ', 'celery -q ', 1)}"]
            child = processes.start(name, shell, env=chosen, cwd=Path(folder))
            if "worker" in command_line:
                wait_for_line(child, r" ready\.", 60)
            else:
                _wait_for_answer(f"http://127.0.0.1:{ports.flower}/healthcheck", child, 60)
        processes.say(_next(server.url, ports, password))
        return processes.run()


def _wait_for_answer(url: str, child: Child, timeout: float) -> None:
    """Wait until something is served at the URL, the child has ended, or the time is up; `Processes.run` goes on."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and child.poll() is None:
        with suppress(OSError), urlopen(url, timeout=5):  # noqa: S310 - our own, over http
            return
        time.sleep(0.1)


def _next(redis_url: str, ports: Ports, password: str) -> str:
    return f"""
Everything runs, until Ctrl-C. In another terminal, in this folder:

  . .venv/bin/activate
  export REDIS_URL={redis_url}
  cardtoken lookup opay OPAY_TOKEN_visa
  cardtoken lookup afterpay timeout-2
  cardtoken status --watch

Flower    http://127.0.0.1:{ports.flower} (user demo, password {password})
Metrics   http://127.0.0.1:{ports.interactive_metrics}/metrics (interactive)
          http://127.0.0.1:{ports.bulk_metrics}/metrics (bulk)
Providers http://127.0.0.1:{ports.simulator}; simulator/README.md has what they know
"""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when asked to stop; else what the process ended with that ended by itself."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.up", description=__doc__)
    parser.add_argument("--any-ports", action="store_true", help="free ports, in place of the usual ones")
    options = parser.parse_args(argv)
    try:
        with signals_as_ctrl_c():
            return up(Ports.choose(usual=not options.any_ports))
    except KeyboardInterrupt:
        return 0
    except (ChildEndedError, ServerError, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
