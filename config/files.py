"""Files that variables name: what is in them, or why it cannot be had."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.errors import Fault

#: Bytes. An accounts file of ten thousand accounts is smaller.
MAX_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a file's content cannot be had, in words that follow the name of its variable."""

    problem: str
    fix: str = "name a file that this user can read"

    def fault(self, variable: str) -> Fault:
        """Return it as a fault of the variable that names the file."""
        return Fault(variable, self.problem, self.fix)


Content = bytes | Unreadable


def read(path: str) -> Content:
    """Return the content of a file. A pipe is waited for, as its content comes once."""
    return _read(path, os.O_RDONLY)


def read_again(path: str) -> Content:
    """Return the content of a file that has been read before. Nothing but a regular file is waited for."""
    return _read(path, os.O_RDONLY | os.O_NONBLOCK, regular=True)


def is_regular(path: str) -> bool:
    """Return whether a path leads to a regular file, which can be read again."""
    return Path(path).is_file()


def _read(path: str, flags: int, *, regular: bool = False) -> Content:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if regular and not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Unreadable("cannot be read: it is not a regular file any more")
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there can be no such file"
        return Unreadable(f"cannot be read: {reason}")
    if len(content) > MAX_BYTES:
        return Unreadable(f"names a file of more than {MAX_BYTES} bytes", "name a smaller one")
    return content
