"""What the locks name, and what is installed of it: version, hashes, metadata, and which package needs which."""

import itertools
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageMetadata, distributions
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
#: What is deployed from this checkout, each from the lock of its extra.
DEPLOYED = ("worker", "simulator")
#: The package whose program is process 1 of each image.
PROCESS_1 = "dumb-init"


@dataclass(frozen=True)
class LockedPackage:
    """One package of a lock: its version, the SHA-256 of each of its files, and where it is installed at all."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str | None = None


@dataclass(frozen=True)
class Metadata:
    """What an installed package says of itself."""

    version: str
    requires: tuple[Requirement, ...] = ()
    licence_expression: str | None = None
    licence_field: str | None = None
    licence_classifiers: tuple[str, ...] = ()


class LockError(Exception):
    """A lock is not what it must be, or what is installed is not what it names."""


def project() -> dict[str, Any]:
    """Return the ``project`` table of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def lock_file(extra: str) -> Path:
    """Return where the lock of an extra is."""
    return ROOT / f"requirements/{extra}.txt"


def deployed(extra: str) -> list[LockedPackage]:
    """Return the packages that an image holds: those of its lock, and process 1, which the build's lock names."""
    return [*read_lock(lock_file(extra)), *(each for each in read_lock(lock_file("image")) if each.name == PROCESS_1)]


def read_lock(path: Path) -> list[LockedPackage]:
    """Return the packages of a lock; LockError names the line that is not a pinned package with hashes, and no more."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [_package(line, path.name) for line in text.splitlines() if line.strip()]


def _package(line: str, lock: str) -> LockedPackage:
    requirement, *options = re.split(r"\s+--", line.strip())
    pinned = re.fullmatch(r"([\w.-]+)==([\w.!+-]+)(?:\s*;\s*(.+))?", requirement)
    hashes = [option.removeprefix("hash=sha256:") for option in options]
    if pinned is None or not hashes or not all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes):
        raise LockError(f"{lock}: not a package with its version and the SHA-256 of its files: {line[:80]!r}")
    return LockedPackage(canonicalize_name(pinned[1]), pinned[2], tuple(sorted(hashes)), pinned[3])


def installed(path: Sequence[str] = sys.path) -> dict[str, Metadata]:
    """Return the metadata of what is installed on a path, by name."""
    found: dict[str, Metadata] = {}
    for each in distributions(path=list(path)):
        said = each.metadata
        found.setdefault(
            canonicalize_name(each.name),
            Metadata(
                each.version,
                tuple(map(Requirement, each.requires or ())),
                _first(said, "License-Expression"),
                _first(said, "License"),
                tuple(text for text in said.get_all("Classifier") or () if text.startswith("License ::")),
            ),
        )
    return found


def _first(metadata: PackageMetadata, field: str) -> str | None:
    return next(iter(metadata.get_all(field) or ()), None)


def of_lock(packages: Iterable[LockedPackage], found: Mapping[str, Metadata]) -> dict[str, Metadata | None]:
    """Return the metadata of each package, by name: None for one that only other machines install.

    LockError where one is missing that each machine has, or is there in another version than the locked one. A package
    may be locked in two versions, for different machines: the metadata of the one that is here is for both.
    """
    metadata: dict[str, Metadata | None] = {}
    for package in packages:
        there = found.get(package.name)
        if there is None and package.marker is None:
            raise LockError(f"{package.name} {package.version} is locked and not installed: run `make install`")
        if there is not None and there.version != package.version and package.marker is None:
            raise LockError(f"{package.name} is locked as {package.version}, installed is {there.version}")
        metadata[package.name] = there
    return metadata


def needs(
    requirements: Iterable[Requirement], metadata: Mapping[str, Metadata | None]
) -> tuple[set[str], dict[str, set[str]]]:
    """Return which packages these requirements name, and which packages each of all these needs, on any machine.

    LockError where one is needed and not locked.
    """
    direct: set[str] = set()
    graph: dict[str, set[str]] = {}
    waiting = [("", each, "") for each in requirements]
    seen = set()
    while waiting:
        parent, requirement, extra = waiting.pop()
        if not _applies(requirement.marker, extra):
            continue
        name = canonicalize_name(requirement.name)
        if name not in metadata:
            raise LockError(f"{parent or 'the project'} needs {name}, which is not locked: run `make lock`")
        if name != parent:  # a package may name an extra of its own
            (graph[parent] if parent else direct).add(name)
        graph.setdefault(name, set())
        there = metadata[name]
        for wanted in ("", *requirement.extras):
            if there is not None and (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting.extend((name, each, wanted) for each in there.requires)
    return direct, graph


def _applies(marker: Marker | None, extra: str) -> bool:
    return marker is None or any(marker.evaluate({**each, "extra": extra}) for each in _environments())


def _environments() -> Iterator[dict[str, str]]:
    """Yield every machine that the project runs on, as markers see them."""
    systems = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt"))
    prefix = "Programming Language :: Python :: "
    pythons = [text.removeprefix(prefix) for text in project()["classifiers"] if text.startswith(prefix + "3.")]
    for python, patch, (platform, system, name) in itertools.product(pythons, (0, 20), systems):
        yield {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.{patch}",
            "os_name": name,
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": system,
            "platform_version": "",
            "python_full_version": f"{python}.{patch}",
            "python_version": python,
            "sys_platform": platform,
        }
