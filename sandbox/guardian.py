"""Ends child processes whose parent is gone, on Linux and macOS.

One guardian process stands beside this one and holds the reading end of a pipe. When this process is gone, however it
went, the pipe closes, and the guardian ends every child that is left.
"""

import atexit
import inspect
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

GUARDIAN_GRACE = 5.0

# The shell puts its own pid on the pipe and only then becomes the program. While it has yet to do so it keeps
# the pipe open, so there is no moment at which the death of the parent leaves an unknown child.
REGISTER_AND_EXEC = 'echo "+$$" >&0 && exec "$@" </dev/null'


def guard(grace: float) -> None:
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


def in_background(act: Callable[[], object]) -> None:
    """Do it in a thread that ends with this process.

    So children are waited for: Ctrl-C is raised in the main thread, and in the middle of `Popen.poll` it would leave a
    lock behind that stays locked. All others read `returncode`.
    """
    threading.Thread(target=act, daemon=True, name="background").start()


class Guardian:
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
            if self._process is None or self._process.returncode is not None:
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
        """Delete a folder once this process and its children have ended, unless it has gone before."""
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
        source = f"from collections.abc import Callable\n{inspect.getsource(guard)}\nguard({GUARDIAN_GRACE})"
        try:
            # Output to nowhere: an inherited pipe would keep the reader of this process's output waiting.
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
        in_background(self._process.wait)
        for pid in self._wards:
            os.write(self._orders, b"+%d\n" % pid)
        for folder in self._folders:
            os.write(self._orders, b"=" + folder + b"\n")

    def close(self) -> None:
        """End what is left at a normal exit, and wait for it."""
        if self._process is not None:
            with self._lock:
                os.close(self._orders)
                self._orders = -1  # what is released from now on is not reported
            while self._process.returncode is None:
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


guardian = Guardian()
atexit.register(guardian.close)
os.register_at_fork(after_in_child=guardian.forget_after_fork)
