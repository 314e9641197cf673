"""The locks: each package by the hashes of its files, from no named index, in the versions that the tests have."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sandbox.environment import ROOT
from tools.locked import LockError, Metadata, installed, lock_file, needs, of_lock, project, read_lock

LOCKS = sorted(ROOT.glob("requirements/*.txt"))
NODE_LOCKS = [ROOT / folder / "package-lock.json" for folder in ("examples/node", "tests/node")]
HASH = f"--hash=sha256:{'0' * 64}"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_packages_with_hashes_and_nothing_else(lock: Path) -> None:
    packages = read_lock(lock)
    assert packages
    assert re.search(r"://|--(?:extra-)?index|--find-links|--trusted|@ ", lock.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    "line",
    [
        "click==8.5.1",
        f"click>=8.5.1 {HASH}",
        f"click {HASH}",
        "click==8.5.1 --hash=md5:00",
        f"click @ https://example.com/click.whl {HASH}",
        "--index-url https://example.com/simple",
        "-e .",
    ],
)
def test_a_line_that_is_not_pinned_by_hashes_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text(f"rich==15.0.0 \\\n    {HASH}\n{line}\n")
    with pytest.raises(LockError, match=r"some\.txt"):
        read_lock(tmp_path / "some.txt")


@pytest.mark.parametrize("lock", NODE_LOCKS, ids=lambda lock: lock.parent.name)
def test_a_lock_of_node_has_hashes_and_no_registry(lock: Path) -> None:
    packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    packages.pop("")
    assert [name for name, each in packages.items() if not each.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, each in packages.items() if "resolved" in each] == []


@pytest.mark.parametrize("extra", ["worker", "simulator", "image", "bench", "audit"])
def test_what_is_deployed_has_the_versions_that_the_tests_have(extra: str) -> None:
    tested = {each.name: (each.version, each.hashes) for each in read_lock(lock_file("dev"))}
    others = {each.name: (each.version, each.hashes) for each in read_lock(lock_file(extra))}
    assert {name: others[name] for name in tested.keys() & others} == {
        name: tested[name] for name in tested.keys() & others
    }


@pytest.mark.parametrize("extra", ["worker", "simulator", "dev"])
def test_a_lock_has_what_pyproject_asks_for(extra: str) -> None:
    about = project()
    versions = {each.name: each.version for each in read_lock(lock_file(extra))}
    asked = map(Requirement, [*about["dependencies"], *about["optional-dependencies"][extra]])
    wrong = [str(each) for each in asked if each.name != "cardtoken" and not _holds(each, versions)]
    assert wrong == [], "run `make lock`"


def _holds(requirement: Requirement, versions: dict[str, str]) -> bool:
    locked = versions.get(canonicalize_name(requirement.name))
    return locked is not None and requirement.specifier.contains(locked, prereleases=True)


def test_a_package_that_only_other_machines_install_needs_no_metadata(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text(f"here==1 {HASH}\nthere==1 ; sys_platform == 'win32' {HASH}\n")
    packages = read_lock(tmp_path / "some.txt")
    assert of_lock(packages, {"here": Metadata("1")}) == {"here": Metadata("1"), "there": None}
    with pytest.raises(LockError, match="here 1 is locked and not installed: run `make install`"):
        of_lock(packages, {})
    with pytest.raises(LockError, match="here is locked as 1, installed is 2"):
        of_lock(packages, {"here": Metadata("2")})


def test_needs_follow_extras_and_the_markers_of_every_machine() -> None:
    metadata = {
        "app": Metadata("1", (Requirement("plain"), Requirement("extra1; extra == 'fast'"), Requirement("app[fast]"))),
        "plain": Metadata("1", (Requirement("win; sys_platform == 'win32'"), Requirement("py2; python_version < '3'"))),
        "extra1": Metadata("1"),
        "win": None,
    }
    direct, graph = needs([Requirement("app")], metadata)
    assert direct == {"app"}
    assert graph == {"app": {"extra1", "plain"}, "plain": {"win"}, "extra1": set(), "win": set()}


def test_a_package_that_is_needed_and_not_locked_is_named() -> None:
    with pytest.raises(LockError, match="app needs gone, which is not locked: run `make lock`"):
        needs([Requirement("app")], {"app": Metadata("1", (Requirement("gone"),))})


def test_the_metadata_is_that_of_what_is_installed() -> None:
    assert installed()["click"].version == version("click")
