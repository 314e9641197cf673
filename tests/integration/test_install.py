"""``make install``: when a virtual environment is made anew, and what is shown meanwhile."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.environment import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile, and a virtual environment that it takes for its own."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / ".venv/installed").touch()
    return tmp_path


def is_made_anew(project: Path, *variables: str) -> bool:
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHON", "MAKEFLAGS", "MAKELEVEL"}}
    command = ["make", "-n", "install", *variables]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=60, check=True)
    return "sandbox.install" in done.stdout


def another_python(project: Path) -> str:
    """A program that says it is another Python."""
    other = project / "python-other"
    other.write_text("#!/bin/sh\necho 3.12.1:/elsewhere\n")
    other.chmod(0o755)
    return f"PYTHON={other}"


def test_an_environment_stays_where_no_other_python_is_asked_for(project: Path) -> None:
    assert not is_made_anew(project)
    assert not is_made_anew(project, f"PYTHON={sys.executable}")


def test_an_environment_is_made_anew_where_python_names_another_one(project: Path) -> None:
    assert is_made_anew(project, another_python(project))


def test_an_environment_is_made_anew_where_its_own_python_is_gone(project: Path) -> None:
    (project / ".venv/bin/python").unlink()
    assert is_made_anew(project)


def test_an_installation_that_fails_says_why_and_shows_how_far_it_came(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"no-such-package-of-ours==1 --hash=sha256:{'0' * 64}\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.install", str(tmp_path / "venv"), str(requirements)],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "venv: made with Python 3." in done.stdout
    assert "No matching distribution found for no-such-package-of-ours==1" in done.stderr
    assert "package index within reach" in done.stderr
