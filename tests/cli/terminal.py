"""``cardtoken`` as people and programs call it: on a terminal of its own, and through pipes."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from sandbox.environment import ROOT, clean_environment

CARDTOKEN = [sys.executable, "-m", "cardtoken"]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x1b\][^\x07]*\x07")


def environment(redis_url: str, **more: str) -> dict[str, str]:
    """Where a command finds Redis, and what a terminal is."""
    kept = {name: value for name, value in clean_environment().items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    return {**kept, "REDIS_URL": redis_url, "TERM": "xterm-256color", **more}


def piped(
    env: Mapping[str, str], *args: str, stdin: str | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command whose output is not a terminal."""
    return subprocess.run(
        [*CARDTOKEN, *args],
        cwd=ROOT,
        env=env,
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def piped_each(
    env: Mapping[str, str], *commands: Sequence[str], timeout: float = 60
) -> list[subprocess.CompletedProcess[str]]:
    """Run commands one after the other as ``piped`` does, each in a fork of one process that has imported all."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-c", _FORKS, folder, json.dumps(commands)]
        done = subprocess.run(
            program, cwd=ROOT, env=env, input="", capture_output=True, text=True, timeout=timeout, check=True
        )
        streams = [
            [Path(folder, f"{number}.{fd}").read_text("utf-8") for fd in (1, 2)] for number in range(len(commands))
        ]
    return [
        subprocess.CompletedProcess([*CARDTOKEN, *args], status, *streams)
        for args, status, streams in zip(commands, json.loads(done.stdout), streams, strict=True)
    ]


_FORKS = """
import json, os, sys
import cardtoken.client, cardtoken.connection
from cardtoken import cli

folder, statuses = sys.argv[1], []
for number, args in enumerate(json.loads(sys.argv[2])):
    child = os.fork()
    if not child:
        for fd in (1, 2):
            os.dup2(os.open(f"{folder}/{number}.{fd}", os.O_WRONLY | os.O_CREAT, 0o600), fd)
        sys.argv = ["cardtoken", *args]
        cli.main()
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


class Terminal:
    """A command on a terminal of 24 lines, which can be typed at."""

    def __init__(
        self, env: Mapping[str, str], *args: str, columns: int = 120, program: Sequence[str] = CARDTOKEN
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        try:
            self.process = subprocess.Popen(
                [*program, *args], cwd=ROOT, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
        finally:
            os.close(slave)
        self.raw = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._master)

    @property
    def text(self) -> str:
        """All that has been shown, without colours and movements."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        """As from a keyboard."""
        os.write(self._master, keys.encode())

    def press_ctrl_c(self) -> None:
        """What a terminal does with it: a signal to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def interrupt(self) -> int:
        """Ctrl-C, until it has ended: one that comes just before a program begins to read a line is seen after it."""
        while self.process.poll() is None:
            self.press_ctrl_c()
            end = time.monotonic() + 1
            while self.process.poll() is None and time.monotonic() < end:
                self._read(end)
        return self.end()

    def until(self, pattern: str, timeout: float = 30) -> str:
        """Wait until this is shown; return all of the text so far."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.text):
            if not self._read(end) and self.process.poll() is not None:
                self._read(time.monotonic() + 0.5)
                if not re.search(pattern, self.text):
                    raise AssertionError(
                        f"ended with {self.process.returncode} before {pattern!r} was shown:\n{self.text}"
                    )
            assert time.monotonic() < end, f"{pattern!r} was not shown in {timeout} s:\n{self.text}"
        return self.text

    def end(self, timeout: float = 30) -> int:
        """Wait for the end of the command; return its exit status."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, f"still runs after {timeout} s:\n{self.text}"
            self._read(time.monotonic() + 0.1)
        while self._read(time.monotonic() + 0.1):
            pass
        return self.process.returncode

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], min(0.2, max(0.0, end - time.monotonic())))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)
