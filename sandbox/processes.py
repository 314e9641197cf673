"""Child processes that cannot outlive the process that started them.

Each child is a direct child of this process, in a session of its own: the terminal's Ctrl-C does not reach it, and
what it starts in turn is ended with it. ``sandbox.guardian`` ends it when this process is gone.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from sandbox.guardian import guardian, in_background

TAIL_LINES = 1000


class ChildEndedError(RuntimeError):
    """A child ended before it said what was waited for; the message carries its last output."""


class Output:
    """A child's lines: the latest `TAIL_LINES` are kept, and each is handed on as it comes."""

    def __init__(self, stream: IO[bytes], on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._changed = threading.Condition()
        self._pump = threading.Thread(target=self._read, args=(stream,), daemon=True, name="child-output")
        self._pump.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\r\n")
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
                if self._on_line is not None:
                    try:
                        self._on_line(line)
                    except (OSError, ValueError):  # the reader is gone; the child must still not block
                        self._on_line = None

    def search(self, pattern: re.Pattern[str], timeout: float) -> re.Match[str] | None:
        """The first kept line's match; waits up to `timeout` seconds for news when there is none."""
        with self._changed:
            found = self._search(pattern)
            if found is None and self._changed.wait(timeout):
                found = self._search(pattern)
            return found

    def _search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return next(filter(None, map(pattern.search, self._lines)), None)

    def drain(self) -> None:
        """Wait, at most a second, for the end of what the ended child has written."""
        self._pump.join(1.0)

    def tail(self, lines: int = 20) -> str:
        with self._changed:
            return "\n".join(list(self._lines)[-lines:])


class Child:
    """A running program. `output` is None when its output goes straight to a file."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, on_line: Callable[[str], None] | None) -> None:
        self._process = process
        self.name = name
        self.pid = process.pid
        self.output = None if process.stdout is None else Output(process.stdout, on_line)
        #: The exit status, minus the signal's number when a signal ended it, None while it runs.
        self.returncode: int | None = None
        in_background(self._see_off)

    def _see_off(self) -> None:
        """Wait for its end, and end what is left of its process group."""
        code = self._process.wait()
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        guardian.release(self.pid)
        if self.output is not None:
            self.output.drain()
        self.returncode = code

    def poll(self) -> int | None:
        """`returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The return code, once there is one. Raises TimeoutError after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout:g} s")
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal the child itself, not what it started; nothing happens when it has ended."""
        self._reach(os.kill, number)

    def _reach(self, send: Callable[[int, int], None], number: int) -> None:
        if self._process.returncode is None:
            with suppress(OSError):
                send(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM, and SIGCONT so that a paused child hears it."""
        self.send_signal(signal.SIGTERM)
        self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the child and all of its process group."""
        self._reach(os.killpg, signal.SIGKILL)

    def stop(self, grace: float = 10.0) -> int:
        """`terminate`, `kill` after `grace` seconds or when interrupted; return the return code."""
        try:
            self.terminate()
            return self.wait(grace)
        except TimeoutError:
            self.kill()
            return self.wait()
        except BaseException:
            self.kill()
            raise


def start(
    argv: Sequence[str | Path],
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> Child:
    """Start a program that ends when this process does.

    Its stdin is empty, its stderr joins its stdout. Both are read line by line (kept for `wait_for_line`,
    handed to `on_line` from a thread), or appended to the file `log`. `env` replaces the environment, as in
    `subprocess`.

    Raises FileNotFoundError when there is no such program.
    """
    environment = {**(os.environ if env is None else env)}
    environment.setdefault("PYTHONUNBUFFERED", "1")  # a ready line in a buffer is a ready line that is not seen
    program = str(argv[0])
    candidate = str(Path(cwd or ".", program).resolve()) if os.sep in program else program
    if shutil.which(candidate, path=environment.get("PATH")) is None:
        raise FileNotFoundError(f"no program {program!r} to start: it is neither a file nor on PATH")
    with ExitStack() as stack:
        stdout = subprocess.PIPE if log is None else stack.enter_context(log.open("ab"))
        process = guardian.spawn([str(part) for part in argv], env=environment, cwd=cwd, stdout=stdout)
    return Child(process, name or Path(program).name, on_line)


def wait_for_line(child: Child, pattern: str, timeout: float) -> re.Match[str]:
    """The first line of the child's output, from its start on, in which `pattern` is found.

    Raises ChildEndedError when the child ends without such a line, TimeoutError after `timeout` seconds, both
    with its last lines; ValueError for a child whose output goes to a file.
    """
    if child.output is None:
        raise ValueError(f"the output of {child.name} goes to a file: start it without log=")
    wanted, deadline = re.compile(pattern), time.monotonic() + timeout
    while True:
        code, left = child.poll(), deadline - time.monotonic()
        if code is not None:
            child.output.drain()
        if found := child.output.search(wanted, 0.0 if code is not None else min(0.05, max(left, 0.0))):
            return found
        if code is not None:
            said = f"{child.name} ended with {code} before it said {pattern!r}"
            raise ChildEndedError(f"{said}; its last output:\n{child.output.tail()}")
        if left <= 0:
            said = f"{child.name} did not say {pattern!r} in {timeout:g} s"
            raise TimeoutError(f"{said}; its last output:\n{child.output.tail()}")
