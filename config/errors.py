"""Errors of a configuration, all of them at once, in words that name the variable and the fix."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from pydantic import BaseModel, ValidationError

#: Exit status of a process that is configured wrongly: EX_CONFIG of sysexits.h.
EX_CONFIG: Final = 78
_LONGEST_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Fault:
    """One variable, what is wrong with it (never its value), and what to set instead."""

    variable: str
    problem: str
    fix: str = ""


class ConfigurationError(Exception):
    """The process cannot start as it is configured."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self._text())

    def _text(self) -> str:
        count = len(self.faults)
        lines = [f"The configuration is wrong in {count} place{'s' if count != 1 else ''}:"]
        for fault in self.faults:
            lines.append(f"  {fault.variable}: {fault.problem}")
            if fault.fix:
                lines.append(f"      fix: {fault.fix}")
        return "\n".join(lines)


def refuse(reason: object) -> NoReturn:
    """Write why this process cannot start to standard error, and end it with status ``EX_CONFIG``."""
    sys.stderr.write(f"{reason}\n")
    sys.exit(EX_CONFIG)


def faults_of(error: ValidationError, model: type[BaseModel], variable: Callable[[str], str]) -> Iterable[Fault]:
    """Return the faults in a validation error; ``variable`` names the environment variable of a field."""
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        field = str(detail["loc"][0]) if detail["loc"] else ""
        info = model.model_fields.get(field)
        parts = [str(part) for part in detail["loc"][1:] if not str(part).startswith("function-")]
        # What is longer than a code may be a value that stands in the wrong place.
        inner = ".".join(part if len(part) <= _LONGEST_SHOWN else "…" for part in parts)
        problem = "is missing" if detail["type"] == "missing" else detail["msg"].removeprefix("Value error, ")
        problem = problem[:1].lower() + problem[1:]
        yield Fault(variable(field), f"{inner}: {problem}" if inner else problem, (info and info.description) or "")
