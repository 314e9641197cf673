"""What pyproject.toml requires for development, without upper bounds: ``make newest`` installs it."""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

_PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def newest() -> list[str]:
    """Return every requirement of the ``dev`` extra and of the extras that it names, with its lower bound alone."""
    project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    dev = [Requirement(text) for text in extras["dev"]]
    named = {extra for each in dev if each.name == project["name"] for extra in each.extras}
    texts = [*project["dependencies"], *extras["dev"], *(text for extra in sorted(named) for text in extras[extra])]
    return [_lifted(each) for each in map(Requirement, texts) if each.name != project["name"]]


def _lifted(requirement: Requirement) -> str:
    kept = [str(part) for part in requirement.specifier if part.operator not in {"<", "<=", "==", "~="}]
    requirement.specifier = SpecifierSet(",".join(kept))
    return str(requirement)


if __name__ == "__main__":
    sys.stdout.write("\n".join(newest()) + "\n")
