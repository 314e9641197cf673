"""One combination: a Python, a server and the tests that they are tried with."""

import os
import re
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.environment import ROOT
from tools.matrix import pieces

#: What make and a shell set for this environment, and a test of another one must not see.
_NOT_HANDED_ON: Final = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST_ADDOPTS", "PYTHON", "VIRTUAL_ENV"}

#: Those of `make test`.
_QUICK: Final = "not tools and not containers and not alerts"
#: What is told while a combination is tried: its new state in words.
Told = Callable[[str], None]


@dataclass
class Combination:
    """What is tried, and what became of it."""

    python: str
    server: str
    tests: Sequence[str]
    python_version: str = ""
    server_version: str = ""
    state: str = "waits"
    passed: bool | None = None
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    log: Path | None = None

    @property
    def name(self) -> str:
        """As in the name of its log."""
        return f"python-{self.python}-{self.server}"

    def try_out(self, jobs: int, logs: Path, told: Told) -> None:
        """Find the pieces, make the environment and run the tests; `passed` stays None where a piece is missing.

        The log of tests that failed is kept in `logs`.
        """
        began = time.monotonic()
        try:
            told("finds its Python")
            python = pieces.python_of(self.python)
            self.python_version = python.version
            told("installs the lock")
            program = pieces.environment_of(python, self.python)
            told("finds its Redis")
            server = pieces.server_of(self.server, program)
            self.server_version = server.version
            self._run(program, server, jobs, logs, told)
        except pieces.MissingError as error:
            self.state = f"not to be had: {error}"
        except pieces.BrokenError as error:
            self.passed = False
            self.state = str(error)
        finally:
            self.seconds = time.monotonic() - began

    def _run(self, python: Path, server: pieces.Piece, jobs: int, logs: Path, told: Told) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{self.name}.log"
        pytest = [str(python), "-u", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", _QUICK]
        command = [*pytest, "-n", str(jobs), "--dist", "loadfile", "--no-loadscope-reorder", *self.tests]
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
        environment["PATH"] = f"{server.program.parent}{os.pathsep}{environment['PATH']}"
        last: deque[str] = deque(maxlen=1)
        with (
            log.open("w", encoding="utf-8", buffering=1) as kept,
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as running,
        ):
            kept.write(f"{self.python_version}, {self.server_version}: {' '.join(command)}\n")
            try:
                for line in running.stdout or ():
                    kept.write(line)
                    last.append(line.strip())
                    if share := re.search(r"\[ *(\d+%)\]$", line.strip()):
                        told(f"{share[1]} of the tests")
                    if failed := re.match(r"(?:FAILED|ERROR) (\S+)", line):
                        self.failures.append(failed[1])
            except BaseException:
                running.terminate()
                raise
        self.passed = running.returncode == 0
        self.state = re.sub(r"^=+ | in [\d.]+s.*$", "", last[0] if last else "pytest said nothing")
        if self.passed:
            log.unlink()
        else:
            self.log = log
