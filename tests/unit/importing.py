"""Import modules, and report what their import does beside defining things: a program for a process of its own.

``python -P importing.py ROOT MODULE…`` writes a JSON list of findings. The working directory is one whose files no
import may open. What a library does while it is itself imported is left out; what a module below ROOT does, or calls a
library to do, is reported.
"""

import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

ROOT: Final = Path(sys.argv[1]).resolve()
HERE: Final = Path.cwd()
#: Audit events of processes, sockets, and changes to files or to the process.
STARTS: Final = frozenset(
    {
        *("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "os.kill"),
        *("socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostname"),
        *("os.mkdir", "os.remove", "os.rename", "os.chdir", "shutil.rmtree", "tempfile.mkstemp"),
        *("os.putenv", "os.unsetenv"),
    }
)
#: Variables that pydantic reads for each model and click for each command: none is a setting of this service.
OF_LIBRARIES: Final = ("PYDANTIC_", "LC_", "LANG")

found: list[str] = []


def culprit() -> str | None:
    """Return the line below ROOT that does this or calls a library to; None where a library does it by itself."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return None
        if name.startswith(f"{ROOT}{os.sep}") and "site-packages" not in name and name != __file__:
            return f"{Path(name).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def note(what: str) -> None:
    where = culprit()
    if where is not None:
        found.append(f"{where} {what}")


class Watched(MutableMapping[str, str]):
    """The environment, which notes each line that reads or changes it."""

    def __init__(self, real: MutableMapping[str, str]) -> None:
        self._real = real

    def __getitem__(self, name: str) -> str:
        if not name.startswith(OF_LIBRARIES):
            note(f"reads {name} from the environment")
        return self._real[name]

    def __setitem__(self, name: str, value: str) -> None:
        note(f"sets {name} in the environment")
        self._real[name] = value

    def __delitem__(self, name: str) -> None:
        note(f"takes {name} out of the environment")
        del self._real[name]

    def __iter__(self) -> Iterator[str]:
        note("reads the environment")
        return iter(self._real)

    def __len__(self) -> int:
        note("reads the environment")
        return len(self._real)

    def copy(self) -> dict[str, str]:
        return dict(self)


def audited(event: str, arguments: tuple[Any, ...]) -> None:
    if event in STARTS:
        note(f"does {event}")
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path, mode, flags = HERE / os.fsdecode(arguments[0]), arguments[1] or "r", arguments[2]
        writes = any(letter in mode for letter in "wax+") or flags & (os.O_WRONLY | os.O_RDWR)
        if path.is_relative_to(HERE) or (writes and path != Path(os.devnull)):
            # Also where a library does it by itself: no import may depend on these files, or write any.
            found.append(f"{culprit() or 'a library'} opens {os.path.relpath(path, HERE)}")


def started(thread: threading.Thread, start: Callable[[threading.Thread], None] = threading.Thread.start) -> None:
    """Start a thread, and note which line does."""
    note("starts a thread")
    start(thread)


def state() -> dict[str, object]:
    """Return what an import must leave as it is."""
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "signal handlers": {int(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "sys.excepthook": sys.excepthook,
        "sys.unraisablehook": sys.unraisablehook,
        "threading.excepthook": threading.excepthook,
        "standard streams": (sys.stdin, sys.stdout, sys.stderr),
        "handlers of the root logger": list(logging.getLogger().handlers),
        "the factory of log records": logging.getLogRecordFactory(),
        "the working directory": Path.cwd(),
        "the path of imports": list(sys.path),
    }


def main() -> None:
    """Import the modules, and write what was found."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(ROOT))
    threading.Thread.start = started  # type: ignore[method-assign, assignment]  # Python 3.11 has no audit event for it
    os.environ = Watched(os.environ)  # type: ignore[assignment]  # noqa: B003 - the same environment, watched
    sys.addaudithook(audited)
    before = state()
    for module in sys.argv[2:]:
        try:
            importlib.import_module(module)
        except SystemExit as error:
            found.append(f"importing {module} ends the process with {error.code}")
        except Exception as error:  # noqa: BLE001 - each is a finding
            found.append(f"importing {module} raises {type(error).__name__}: {error}")
    after = state()
    found.extend(f"an import changes {name}" for name, was in before.items() if was != after[name])
    sys.__stdout__.write(json.dumps(found))  # type: ignore[union-attr]  # it has one


if __name__ == "__main__":
    main()
