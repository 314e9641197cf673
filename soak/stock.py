"""Runs :mod:`soak.stock_worker`, on this interpreter or on another one."""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandbox.environment import ROOT
from sandbox.processes import start
from sandbox.service import WorkerProcess

_REDIS_PLUS = "celery_redis_plus.transport:Transport"


class UnavailableError(Exception):
    """What a run compares with cannot be had here; the text says why."""


class StockWorker(WorkerProcess):
    """``celery -A soak.stock_worker worker``, with as many threads as it makes calls at once."""

    def __init__(self, environment: Mapping[str, str], python: str = sys.executable) -> None:
        command = [python, "-m", "celery", "-A", "soak.stock_worker", "worker", "-l", "INFO"]
        command += ["-n", f"w{uuid.uuid4().hex[:8]}@stock", "--without-mingle"]
        self.lines = []
        self.child = start(command, name="stock worker", cwd=ROOT, env=environment, on_line=self.lines.append)


@contextmanager
def redis_plus() -> Iterator[tuple[str, dict[str, str]]]:
    """An interpreter that has celery-redis-plus, and the environment that makes a stock worker use it."""
    python = os.environ.get("SOAK_PYTHON_313") or shutil.which("python3.13")
    if python is None:
        raise UnavailableError("it needs Python 3.13: name one in SOAK_PYTHON_313")
    with tempfile.TemporaryDirectory() as folder:
        own = str(Path(folder, "venv", "bin", "python"))
        commands = [
            [python, "-m", "venv", str(Path(folder, "venv"))],
            [own, "-m", "pip", "install", "-q", "celery-redis-plus[redis]", "requests"],
            [own, "-c", "import celery_redis_plus"],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no reason given"]
                raise UnavailableError(f"celery-redis-plus cannot be installed: {lines[-1][:200]}")
        yield own, {"STOCK_TRANSPORT": _REDIS_PLUS}
