"""What is shown of an error that was not foreseen: its type and its place. Its text may quote what it was given."""

import traceback
from pathlib import PurePath
from types import CodeType, FrameType, TracebackType
from typing import Final

#: The packages whose places are given as files of this project.
_OWN: Final = frozenset({"cardtoken", "config", "tasks"})
#: Causes and members of a group that are named at most.
_MOST: Final = 3


def describe_error(error: BaseException) -> str:
    """Return the type and place of an error, such as ``KeyError at tasks/calls/engine.py:88``, and never its text.

    The place is the innermost line of this project's own code, or a library's module and line where the error never
    came by any. One that was not raised has none. The causes that it was raised from are named too.
    """
    described = [_one(error)]
    cause = error.__cause__
    while cause is not None and len(described) <= _MOST:
        described.append(_one(cause))
        cause = cause.__cause__
    return ", caused by ".join(described)


def describe_stack(error: BaseException) -> str:
    """Return the same, and below it the lines that it came by, the innermost last: without values and code."""
    frames = [
        f"  {_place(frame.f_code, _module(frame), line)} in {frame.f_code.co_name}" for frame, line in _walk(error)
    ]
    return "\n".join([describe_error(error), *frames])


def _one(error: BaseException) -> str:
    name = type(error).__name__
    frames = [(frame.f_code, _module(frame), line) for frame, line in _walk(error)]
    own = [each for each in frames if each[1].partition(".")[0] in _OWN]
    words = f"{name} at {_place(*(own or frames)[-1])}" if frames else name
    if isinstance(error, BaseExceptionGroup):
        members = [_one(each) for each in error.exceptions[:_MOST]]
        more = [f"{len(error.exceptions) - _MOST} more"] if len(error.exceptions) > _MOST else []
        words += f" ({', '.join(members + more)})"
    return words


def _walk(error: BaseException) -> list[tuple[FrameType, int]]:
    found: TracebackType | None = error.__traceback__
    return list(traceback.walk_tb(found))


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))


def _place(code: CodeType, module: str, line: int) -> str:
    if module.partition(".")[0] not in _OWN:
        return f"{module}:{line}"
    package = "/__init__" if PurePath(code.co_filename).name == "__init__.py" else ""
    return f"{module.replace('.', '/')}{package}.py:{line}"
