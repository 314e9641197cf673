"""``make up``: the whole service on this machine alone, until Ctrl-C.

A Redis-compatible server, both providers simulated, and every process of the Procfile: a worker for each lane, and
Flower. Nothing of it outlives this command, and nothing is kept.
"""

import argparse
import os
import re
import secrets
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.demo import ROOT, environment
from sandbox.group import Processes, signals_as_ctrl_c
from sandbox.processes import wait_for_line
from sandbox.redis_server import RedisServer, free_port


def procfile() -> dict[str, str]:
    """Name → command of each process that is deployed."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(re.split(r":\s+", line, maxsplit=1) for line in lines if line and not line.startswith("#"))


def up(port: int) -> int:
    """Run it; answers the exit status."""
    flower_port, password = _free(port), secrets.token_urlsafe(9)
    metrics = {lane: free_port() for lane in ("interactive", "bulk")}
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(appendonly=True) as server,
        Processes(width=11) as processes,
    ):
        processes.watch(server.child)
        simulator = processes.start("providers", [sys.executable, "-m", "simulator"], cwd=ROOT)
        url = wait_for_line(simulator, r"listening on (\S+)", 20).group(1)
        chosen = {
            **environment(server.url, url, folder),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "FLOWER_PORT": str(flower_port),
            "FLOWER_BASIC_AUTH": f"demo:{password}",
            "FLOWER_DB": f"{folder}/flower/tasks",
            **{f"{lane.upper()}_METRICS_PORT": str(port) for lane, port in metrics.items()},
        }
        for name, command in procfile().items():
            child = processes.start(name, ["/bin/sh", "-c", f"exec {command}"], env=chosen, cwd=ROOT)
            if "worker" in command:
                wait_for_line(child, r" ready\.", 60)
        processes.say(_next(server.url, flower_port, password, metrics))
        return processes.run()


def _next(redis_url: str, flower_port: int, password: str, metrics: Mapping[str, int]) -> str:
    where = ", ".join(f"http://127.0.0.1:{port}/metrics ({lane})" for lane, port in metrics.items())
    return f"""
Everything runs, until Ctrl-C. In another terminal:

  export REDIS_URL={redis_url}
  .venv/bin/cardtoken lookup opay OPAY_TOKEN_visa
  .venv/bin/cardtoken lookup afterpay timeout-2
  .venv/bin/cardtoken status --watch

Flower: http://127.0.0.1:{flower_port} (user demo, password {password}).
Metrics: {where}
References that the simulated providers know: simulator/README.md.
"""


def _free(port: int) -> int:
    """The port, or another one where it is taken or 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return free_port()
        return port or free_port()


def main(argv: Sequence[str] | None = None) -> int:
    """0 when asked to stop; else what the process ended with that ended by itself."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.up", description=__doc__)
    parser.add_argument(
        "--flower-port", type=int, default=5555, help="another is taken where it is in use (default: 5555)"
    )
    options = parser.parse_args(argv)
    try:
        with signals_as_ctrl_c():
            return up(options.flower_port)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
