"""The runbook's commands, as docs/operations.md has them under the heading of each alert."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sandbox.environment import ROOT

PAGE: Final = ROOT / "docs" / "operations.md"
_SECTION: Final = re.compile(r"^#### (Cardtoken\w+)\n(.*?)(?=^#)", re.MULTILINE | re.DOTALL)
_BLOCK: Final = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_WORD: Final = re.compile(r"\b(PROVIDER|QUEUES?|GROUP|ACCOUNT|LIST|PID)\b")


def commands() -> dict[str, Sequence[str]]:
    """Return the commands under each alert's heading, a line each."""
    page = PAGE.read_text(encoding="utf-8")
    return {
        found[1]: [line for block in _BLOCK.findall(found[2]) for line in block.splitlines() if line.strip()]
        for found in _SECTION.finditer(re.sub(r"(?m)^#(?= )", " #", page))
    }


def filled(command: str, values: Mapping[str, str]) -> str:
    """Return a command with its words in capitals replaced. Raises KeyError for one that has no value."""
    return _WORD.sub(lambda found: values[found[1]], command)
