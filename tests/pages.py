"""What the pages show, and environments that hold what they tell a reader to install, and nothing else."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from sandbox.environment import ROOT, clean_environment

#: Pages whose blocks of Python are whole programs. Those of the guide to a new provider are modules.
PAGES: Final = tuple(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").glob("*.md")))
    if page.name != "adding-a-provider.md"
)
_BLOCK: Final = re.compile(r"(?:<!-- test: (?P<name>\S+) -->\n)?```python\n(?P<source>.*?)```", re.DOTALL)
_INSTALL: Final = re.compile(r"\bpip install [^`\n]+")


@dataclass(frozen=True)
class Snippet:
    """A program of a page."""

    page: str
    #: The word in the comment before it; None where there is no comment.
    name: str | None
    #: The last command before it on the page that installs something; empty: there is none.
    install: str
    source: str


def snippets(page: str) -> Iterator[Snippet]:
    """The blocks of Python on a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        commands = _INSTALL.findall(text[: found.start()])
        yield Snippet(page, found["name"], commands[-1] if commands else "", found["source"])


def snippet(page: str, name: str) -> Snippet:
    """The block of that name."""
    return next(each for each in snippets(page) if each.name == name)


def install_command(page: str) -> str:
    """The one command on a page that installs something for Python."""
    (command,) = set(_INSTALL.findall((ROOT / page).read_text(encoding="utf-8")))
    return str(command)


class Environments:
    """A virtual environment for each command that installs something; made while nothing waits for it yet."""

    def __init__(self, folder: Path, commands: set[str]) -> None:
        self._folder = folder
        with ThreadPoolExecutor(2) as threads:
            self._made: dict[str, Future[Path]] = {
                command: threads.submit(self._make, number, command) for number, command in enumerate(sorted(commands))
            }

    def programs(self, command: str) -> Path:
        """The folder of the programs that the command has installed, Python's among them."""
        return self._made[command].result()

    def _make(self, number: int, command: str) -> Path:
        folder = self._folder / str(number)
        # Without pip of its own, which takes longer than all the rest: ours installs into it.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
        pip = (
            f"{sys.executable} -m pip --python {folder}/bin/python --disable-pip-version-check -q install --no-compile"
        )
        line = ["/bin/sh", "-c", command.replace("pip install", pip)]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.fail(f"`{command}` failed; is the package index (PIP_INDEX_URL) within reach?\n{done.stderr}")
        return folder / "bin"


def environment(programs: Path, **more: str) -> dict[str, str]:
    """That of a reader who has activated the virtual environment."""
    return {**clean_environment(), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **more}
