"""What is deployed and what is installed, each in an environment that has nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.environment import ROOT
from sandbox.processes import start, wait_for_line
from sandbox.service import Service

pytestmark = pytest.mark.tools


def environment(folder: Path) -> Path:
    """An empty virtual environment; answers where its programs are."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    return folder / "bin"


def pip(programs: Path, *args: str) -> None:
    command = [str(programs / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)  # the package index and the machine may be slow
def test_a_worker_runs_from_its_lock_and_what_its_image_copies(service: Service, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv")
    pip(programs, "--require-hashes", "-r", str(ROOT / "requirements/worker.txt"))
    for package in ("cardtoken", "config", "tasks"):
        shutil.copytree(ROOT / package, tmp_path / "srv" / package)
    command = [
        str(programs / "celery"),
        "-A",
        "tasks",
        "worker",
        "-n",
        "image@test",
        "-Q",
        "lookup.opay.bulk",
        "-l",
        "INFO",
    ]
    worker = start(command, name="worker", cwd=tmp_path / "srv", env=service.environment)
    try:
        wait_for_line(worker, r" ready\.", 60)
        health = [str(programs / "python"), "-m", "cardtoken", "health", "--worker", "image@test"]
        done = subprocess.run(health, cwd=tmp_path / "srv", env=service.environment, timeout=30, check=False)
        assert done.returncode == 0
    finally:
        assert worker.stop() == 0
