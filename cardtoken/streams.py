"""Standard streams that are closed, full, or of a locale that knows ASCII alone."""

import io
import os
import sys
from contextlib import suppress

_NAMES = ("stdin", "stdout", "stderr")


def repair() -> None:
    """Make every standard stream one that can be written to with any text.

    Python leaves out a stream that is closed, and libraries write to it all the same; and the next file or connection
    that is opened would get its number. What a locale of ASCII cannot say is written as UTF-8.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        stream = getattr(sys, name)
        if stream is None:
            mode = "w" if number else "r"
            _set(name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - open while the process lives
        elif number and isinstance(stream, io.TextIOWrapper):
            is_ascii = stream.encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968")
            stream.reconfigure(encoding="utf-8" if is_ascii else stream.encoding, errors="backslashreplace")


def ignore_failures() -> None:
    """Let standard output and error accept every write, and drop what cannot be written: a log must stop nothing."""
    for number, name in enumerate(_NAMES):
        stream = getattr(sys, name)
        if not number or not isinstance(stream, io.TextIOWrapper):
            continue
        with suppress(OSError, ValueError):
            stream.flush()
        with suppress(OSError, ValueError):
            raw = io.BufferedWriter(_Lossy(stream.fileno(), "w", closefd=False))
            _set(name, io.TextIOWrapper(raw, stream.encoding, stream.errors, write_through=True, line_buffering=True))


class _Lossy(io.FileIO):
    """A file that drops what it cannot write."""

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # all that a file takes
        try:
            return super().write(view)
        except OSError:
            return view.nbytes


def _set(name: str, stream: object) -> None:
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
