"""What is deployed is listed with its licences, and built the same by everyone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import ROOT
from tools.licence_page import PAGE, page
from tools.licences import LicenceError, Licences
from tools.locked import DEPLOYED, deployed, installed, lock_file, read_lock
from tools.sbom import FOLDER, sbom

pytestmark = pytest.mark.tools


def bill(extra: str, root: Path = ROOT) -> Any:
    return json.loads((root / FOLDER.relative_to(ROOT) / f"{extra}.cdx.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("extra", DEPLOYED)
def test_the_bill_of_materials_is_that_of_the_lock(extra: str) -> None:
    assert bill(extra) == json.loads(sbom(extra)), "run `make sbom`"
    parts = {part["name"]: part for part in bill(extra)["components"]}
    for package in deployed(extra):
        part = parts.pop(package.name)
        assert part["purl"] == f"pkg:pypi/{package.name}@{package.version}"
        assert {each["content"] for each in part["hashes"]} == set(package.hashes)
        assert part["licenses"]
    assert parts == {}


@pytest.mark.parametrize("extra", DEPLOYED)
def test_each_part_of_the_bill_is_there_because_another_needs_it(extra: str) -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill(extra)["dependencies"]}
    reached, waiting = set(), [f"cardtoken-{extra}"]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += needs[ref]
    assert reached == set(needs) == {f"cardtoken-{extra}", *(part["bom-ref"] for part in bill(extra)["components"])}


def test_the_page_of_licences_is_that_of_the_locks() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make sbom`"


def test_the_rules_name_no_package_that_is_gone_or_says_it_itself() -> None:
    locked = {each.name: each for each in read_lock(lock_file("dev"))}
    found = installed()
    rules = Licences.from_file()
    assert rules.named <= set(locked)
    precise = Licences({"allowed": rules.allowed, "exceptions": [], "stated": {}})
    needless = []
    for name in sorted(set(rules.stated) & set(found)):
        try:
            precise.of(locked[name], found[name])
        except LicenceError:
            continue
        needless.append(name)
    assert needless == [], "take them out of requirements/licences.toml: their metadata is precise"


def checkout(folder: Path) -> Path:
    """Copy what is built, and what lists it, to a folder."""
    for name in ("cardtoken", "tools", "requirements", "docs", "deploy/sbom"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, check=False, timeout=120
    )


def with_planted(tmp_path: Path, packages: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """Return a checkout that needs packages of one's own making, and the environment in which they are installed."""
    copy = checkout(tmp_path / "checkout")
    for name, licence in packages.items():
        folder = tmp_path / f"site/{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{licence}\n")
        for extra in ("dev", "worker"):
            with (copy / f"requirements/{extra}.txt").open("a", encoding="utf-8") as lock:
                lock.write(f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    project = (copy / "pyproject.toml").read_text(encoding="utf-8")
    named = "".join(f'    "{name}",\n' for name in packages)
    (copy / "pyproject.toml").write_text(project.replace("\nworker = [\n", f"\nworker = [\n{named}"), encoding="utf-8")
    return copy, {"PYTHONPATH": str(tmp_path / "site")}


def test_a_package_whose_licence_is_not_allowed_or_unknown_fails(tmp_path: Path) -> None:
    planted = {
        "planted-gpl": "License-Expression: GPL-3.0-or-later",
        "planted-silent": "Summary: says nothing of its licence",
        "planted-mit": "License-Expression: MIT",
    }
    copy, env = with_planted(tmp_path, planted)
    for tool in ("tools.sbom", "tools.licence_page"):
        done = run(sys.executable, "-m", tool, cwd=copy, env=env)
        assert done.returncode == 1
        assert [line.split()[0] for line in done.stderr.splitlines()] == ["planted-gpl", "planted-silent:"]


def test_a_lock_that_moves_moves_its_bill_and_the_page(tmp_path: Path) -> None:
    copy, env = with_planted(tmp_path, {"planted": "License-Expression: MIT"})
    for tool in ("tools.sbom", "tools.licence_page"):
        done = run(sys.executable, "-m", tool, cwd=copy, env=env)
        assert (done.returncode, done.stderr) == (0, "")
    before, after = (next(each for each in bill("worker", root)["dependencies"] if each["ref"] == "cardtoken-worker")
                     for root in (ROOT, copy))  # fmt: skip
    assert set(after["dependsOn"]) - set(before["dependsOn"]) == {"pkg:pypi/planted@1.0"}
    assert bill("simulator", copy) == bill("simulator")
    assert "| planted | 1.0 | MIT | worker |" in (copy / "docs/licences.md").read_text(encoding="utf-8")


def test_two_checkouts_build_the_same_bytes(tmp_path: Path) -> None:
    """At other places and times, with other rights, locales and leftovers; from the sdist and from the tree itself."""
    one, other = checkout(tmp_path / "one"), checkout(tmp_path / "another/place")
    for path in sorted(other.rglob("*"), reverse=True):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    for leftover in ("cardtoken/__pycache__/client.cpython-311.pyc", "cardtoken/.mypy_cache/x.json", ".env", "build/x"):
        (other / leftover).parent.mkdir(parents=True, exist_ok=True)
        (other / leftover).write_text("SECRET=1")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist")
    elsewhere = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    built = []
    for folder, command, env in (
        (one, build, {}),
        (other, ("sh", "-c", 'umask 077 && exec "$@"', "sh", *build, "--sdist", "--wheel"), elsewhere),
    ):
        done = run(*command, ".", cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
        built.append({path.name: path.read_bytes() for path in (folder / "dist").iterdir()})
    assert sorted(name.rsplit("-", 1)[-1] for name in built[0]) == sorted(["any.whl", "0.1.0.tar.gz"])
    assert built[0] == built[1]
