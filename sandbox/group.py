"""Several children at once: started in order, shown together, stopped in reverse."""

import itertools
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Self, TextIO

from sandbox.processes import Child, start

COLOURS = (36, 33, 35, 32, 34, 31)


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
    """Several named children whose lines are shown together, each behind its name, those that are empty left out.

    On a terminal a line that is wider goes on below itself, also behind the name.

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
        """Let `run` answer to the end of this child too; the code that started it stops it."""
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
        with self._writing, suppress(OSError, ValueError):  # the reader is gone: not a reason to stay
            self._out.write(f"{text}\n")
            self._out.flush()

    def _tee(self, name: str) -> Callable[[str], None]:
        prefix = plain = f"{name:<{self._width}} |"
        terminal = self._out.isatty()
        colour = next(self._colours)
        if terminal and not os.environ.get("NO_COLOR"):
            prefix = f"\033[{colour}m{plain}\033[0m"

        def show(line: str) -> None:
            wrapped = [line]
            if terminal:
                width = (os.get_terminal_size(self._out.fileno()).columns or 80) - len(plain) - 1
                wrapped = textwrap.wrap(line, max(width, 20), subsequent_indent=" " * 9, break_on_hyphens=False)
            if line.strip():
                self.say("\n".join(f"{prefix} {each}" for each in wrapped))

        return show
