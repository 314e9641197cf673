"""Child processes that cannot outlive the process that started them, on Linux and macOS.

Each child is a direct child of this process, in a session of its own: the terminal's Ctrl-C does not reach
it, and what it starts in turn is ended with it. One guardian process stands beside this one and holds the
reading end of a pipe. When this process is gone, however it went, the pipe closes and the guardian ends every
child that is left.
"""

import atexit
import inspect
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Self, TextIO

GUARDIAN_GRACE = 5.0
TAIL_LINES = 1000
COLOURS = (36, 33, 35, 32, 34, 31)

# The shell puts its own pid on the pipe and only then becomes the program. While it has yet to do so it keeps
# the pipe open, so there is no moment at which the death of the parent leaves a child nobody knows of.
REGISTER_AND_EXEC = 'echo "+$$" >&0 && exec "$@" </dev/null'


class ChildEndedError(RuntimeError):
    """A child ended before it said what was waited for; the message carries its last output."""


def _guard(grace: float) -> None:
    """Read from stdin which children there are; at its end stop them: SIGTERM, `grace` seconds, SIGKILL.

    An order is a line: `+pid` and `-pid` for a child, `=path` for a folder to delete at the end.
    Runs alone in a bare interpreter, from this source text: it may use nothing but what it imports itself.
    """
    import os
    import signal
    import time

    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    pids: set[bytes] = set()
    folders: set[bytes] = set()
    act = {b"+": pids.add, b"-": pids.discard, b"=": folders.add}
    with open(0, "rb") as orders:
        for order in orders:
            act[order[:1]](order[1:].rstrip(b"\n"))
    children = [int(pid) for pid in pids]

    def reached(send: Callable[[int, int], None], pid: int, *signals: int) -> bool:
        try:
            for number in signals:
                send(pid, number)
        except OSError:  # gone; macOS says "not permitted" for a group of which only a zombie is left
            return False
        return True

    waiting = [pid for pid in children if reached(os.kill, pid, signal.SIGTERM, signal.SIGCONT)]
    deadline = time.monotonic() + grace
    while waiting and time.monotonic() < deadline:
        time.sleep(0.02)
        waiting = [pid for pid in waiting if reached(os.kill, pid, 0)]
    for pid in children:
        reached(os.killpg, pid, signal.SIGKILL)
    if folders:
        import shutil  # most guardians never need it, and it doubles what they import

        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


class _Guardian:
    """This process's end of the pipe; the guardian itself is started with the first child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders = -1
        self._wards: dict[int, subprocess.Popen[bytes]] = {}
        self._folders: set[bytes] = set()

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        stdout: int | IO[bytes],
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._open()
            process = subprocess.Popen(  # noqa: S603 - the caller's own argument vector, no shell expansion
                ["/bin/sh", "-c", REGISTER_AND_EXEC, "sh", *argv],
                env=env,
                cwd=cwd,
                stdin=self._orders,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._wards[process.pid] = process
            return process

    def release(self, pid: int) -> None:
        with self._lock:
            self._wards.pop(pid, None)
            with suppress(OSError):  # a guardian that was killed is replaced at the next start
                os.write(self._orders, b"-%d\n" % pid)

    def delete_afterwards(self, folder: Path) -> None:
        path = os.fsencode(folder.resolve())
        if b"\n" in path:  # the end of an order: better a folder left than an order misread
            return
        with self._lock:
            self._folders.add(path)
            if self._process is not None:
                with suppress(OSError):
                    os.write(self._orders, b"=" + path + b"\n")

    def _open(self) -> None:
        if self._process is not None:
            os.close(self._orders)
        reader, self._orders = os.pipe()
        source = f"from collections.abc import Callable\n{inspect.getsource(_guard)}\n_guard({GUARDIAN_GRACE})"
        try:
            # Output to nowhere: an inherited pipe would keep whoever reads this process's output waiting.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, running the function above
                [sys.executable, "-I", "-S", "-c", source],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(reader)
        for pid in self._wards:
            os.write(self._orders, b"+%d\n" % pid)
        for folder in self._folders:
            os.write(self._orders, b"=" + folder + b"\n")

    def close(self) -> None:
        """End what is left at a normal exit, and wait for it."""
        if self._process is not None:
            os.close(self._orders)
            while self._process.poll() is None:
                for ward in self._wards.values():
                    ward.poll()  # reaped, or the guardian would take it for one that does not want to end
                time.sleep(0.005)
            self._process = None

    def forget_after_fork(self) -> None:
        """Drop what a fork of this process inherited: the children belong to the original."""
        if self._process is not None:
            os.close(self._orders)
            for process in (self._process, *self._wards.values()):
                process.returncode = 0  # not this process's child: nothing to poll or to warn about
            self._process = None
        self._lock = threading.Lock()  # another thread may have held it at the fork
        self._wards.clear()
        self._folders.clear()


_guardian = _Guardian()
atexit.register(_guardian.close)
os.register_at_fork(after_in_child=_guardian.forget_after_fork)


def delete_afterwards(folder: Path) -> None:
    """Delete the folder once this process and its children have ended, unless it has gone before."""
    _guardian.delete_afterwards(folder)


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
                    except (OSError, ValueError):  # nobody reads any more; the child must still not block
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
        self._end_seen = threading.Lock()
        self.name = name
        self.pid = process.pid
        self.output = None if process.stdout is None else Output(process.stdout, on_line)

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal's number when a signal ended it, None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """`returncode`; the first call to see the end also ends what is left of the child's process group."""
        code = self._process.poll()
        if code is not None and self._end_seen.acquire(blocking=False):
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            _guardian.release(self.pid)
            if self.output is not None:
                self.output.drain()
        return code

    def wait(self, timeout: float | None = None) -> int:
        """The return code, once there is one. Raises TimeoutError after `timeout` seconds."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout:g} s") from None
        self.poll()
        return code

    def send_signal(self, number: int) -> None:
        """Signal the child itself, not what it started; nothing happens when it has ended."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM, and SIGCONT so that a paused child hears it."""
        self.send_signal(signal.SIGTERM)
        self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the child and all of its process group."""
        if self.poll() is None:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def stop(self, grace: float = 10.0) -> int:
        """`terminate`, `kill` after `grace` seconds or when interrupted; answers the return code."""
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
    environment.setdefault("PYTHONUNBUFFERED", "1")  # a ready line in a buffer is a ready line nobody sees
    program = str(argv[0])
    candidate = str(Path(cwd or ".", program).resolve()) if os.sep in program else program
    if shutil.which(candidate, path=environment.get("PATH")) is None:
        raise FileNotFoundError(f"no program {program!r} to start: it is neither a file nor on PATH")
    with ExitStack() as stack:
        stdout = subprocess.PIPE if log is None else stack.enter_context(log.open("ab"))
        process = _guardian.spawn([str(part) for part in argv], env=environment, cwd=cwd, stdout=stdout)
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


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt here; a signal that is ignored stays so."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    stack.callback(signal.signal, number, signal.signal(number, interrupt))
        yield


class Processes:
    """Several named children whose lines are shown together, each behind its name.

    Leaving the context stops them, the latest first, each within `grace` seconds; an interrupt meanwhile
    kills the rest. Inside it SIGTERM and SIGHUP act as Ctrl-C does. Colour only on a terminal, and not with
    NO_COLOR.
    """

    def __init__(self, *, out: TextIO | None = None, grace: float = 10.0, width: int = 8) -> None:
        self._out = sys.stdout if out is None else out
        self._grace = grace
        self._width = width
        self._writing = threading.Lock()
        self._signals = ExitStack()
        self._colours = itertools.cycle(COLOURS)
        self._children: list[Child] = []
        self._watched: list[Child] = []

    def __enter__(self) -> Self:
        self._signals.enter_context(signals_as_ctrl_c())
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._signals:
            self.stop()

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """`start`, with every line shown behind `name`."""
        child = start(argv, name=name, env=env, cwd=cwd, on_line=self._tee(name))
        self._children.append(child)
        self._watched.append(child)
        return child

    def watch(self, child: Child) -> None:
        """Let `run` answer to the end of this child too; whoever started it stops it."""
        self._watched.append(child)

    def run(self) -> int:
        """Wait for Ctrl-C or for a child's end, stop the children, and answer an exit status.

        0 when asked to stop; else what the child ended with, 128 + n for signal n, 1 for a child that ended
        with 0, since none was expected to end.
        """
        try:
            while True:
                for child in self._watched:
                    if (code := child.poll()) is not None:
                        self.say(f"{child.name} ended with {code}, stopping the others")
                        self.stop()
                        return 128 - code if code < 0 else code or 1
                time.sleep(0.05)
        except KeyboardInterrupt:
            self.stop()
            return 0

    def stop(self) -> None:
        """Stop the children, the latest first."""
        try:
            while self._children:
                self._children[-1].stop(self._grace)
                self._children.pop()
        except BaseException:
            for child in self._children:
                child.kill()
            raise

    def say(self, text: str) -> None:
        """Write a line of one's own between the children's."""
        with self._writing, suppress(OSError, ValueError):  # nobody reads any more: no reason not to stop
            self._out.write(f"{text}\n")
            self._out.flush()

    def _tee(self, name: str) -> Callable[[str], None]:
        colour = next(self._colours)
        prefix = f"{name:<{self._width}} |"
        if self._out.isatty() and not os.environ.get("NO_COLOR"):
            prefix = f"\033[{colour}m{prefix}\033[0m"
        return lambda line: self.say(f"{prefix} {line}")
