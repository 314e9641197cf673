"""docs/architecture.md shows the tree as it is: each module in its place, and the layers that import-linter keeps.

And every page names only what there is, in plain words.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import ROOT

PAGE = "docs/architecture.md"
ROOMS = ("tasks", "cardtoken", "config", "sandbox", "tools")


def block(name: str) -> list[str]:
    """The lines of the block that follows a comment of that name."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    found = re.search(rf"<!-- test: {name} -->\n```text\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"{PAGE} has no block after <!-- test: {name} -->"
    return found[1].splitlines()


def mapped() -> Iterator[tuple[str, str]]:
    """Each path of the map, with what the map says of it."""
    folders: list[str] = []
    for line in filter(None, block("map")):
        name, _, purpose = line.strip().partition(" ")
        del folders[(len(line) - len(line.lstrip())) // 2 :]
        yield "".join([*folders, name]), purpose.strip()
        if name.endswith("/"):
            folders.append(name)


def modules(room: str) -> Iterator[str]:
    """The modules of a room and the folders that hold them; the docstring of a package is its folder's line."""
    for path in (ROOT / room).rglob("*.py"):
        package = path.name == "__init__.py"
        yield f"{path.parent.relative_to(ROOT)}/" if package else str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS)
def test_the_map_names_every_module_and_no_other(room: str) -> None:
    shown = {path for path, _ in mapped() if path.startswith(f"{room}/")}
    there = set(modules(room))
    wrong = [f"add a line for {each}" for each in sorted(there - shown)]
    wrong += [f"take out {each}, which is not there" for each in sorted(shown - there)]
    assert wrong == [], f"the map in {PAGE} is not the tree:\n" + "\n".join(wrong)


def test_the_map_says_one_short_thing_of_each_module() -> None:
    paths = [path for path, _ in mapped()]
    assert len(paths) == len(set(paths)), f"{PAGE} names a module twice"
    assert [path for path, purpose in mapped() if not purpose] == []
    assert [line for line in block("map") if len(line) > 120] == []


def layers(contracts: list[dict[str, Any]]) -> list[str]:
    (found,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["tasks"])
    return list(found)


def test_the_page_shows_the_layers_that_import_linter_keeps() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    kept = layers(settings["tool"]["importlinter"]["contracts"])
    assert block("layers") == kept, f"write the `layers` of pyproject.toml into {PAGE}:\n" + "\n".join(kept)


def pages() -> list[Path]:
    """All but the changelog, which names what there was."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), ROOT / "simulator/README.md"]
    return [page for page in found if page.name != "CHANGELOG.md"]


@pytest.fixture(scope="module")
def paths() -> list[str]:
    """Files and folders of the project; a folder ends with a slash."""
    rooms = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "build"))]
    there = [*ROOT.iterdir(), *(path for room in rooms for path in room.rglob("*") if "node_modules" not in path.parts)]
    return [f"/{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}" for path in there]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path, paths: list[str]) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = set(re.findall(r"`([\w.-][\w./-]*(?:\.(?:py|lua|sh|acl|toml|yml|md)|/))`", text))
    named -= {name for name in named if re.search("acme|boreal", name)}  # the guide's providers
    missing = [name for name in named if not any(path.endswith(f"/{name}") for path in paths)]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    lost = [link for link in links if link[1] not in anchors(page.parent / link[0] if link[0] else page)]
    assert lost == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_names_the_actor(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\b(?:nobody|somebody|someone|whoever|whatever)\b", text, re.IGNORECASE)
    assert found == [], f"name who does it (worker, producer, operator, …) in {page.relative_to(ROOT)}"
