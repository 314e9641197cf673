"""What is deployed and what is installed, each in an environment that has nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.processes import start, wait_for_line
from tests.harness import ROOT, Service

pytestmark = pytest.mark.tools


def environment(folder: Path) -> Path:
    """An empty virtual environment; answers where its programs are."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    return folder / "bin"


def pip(programs: Path, *args: str) -> None:
    command = [str(programs / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


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


def test_the_wheel_is_all_that_a_user_needs(service: Service, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    programs = environment(tmp_path / "venv")
    pip(programs, *map(str, tmp_path.glob("*.whl")))
    lines = """
from cardtoken import Client
with Client("REDIS_URL") as client:
    result = client.lookup({"opay_token": "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"})
    print(result.status, result.token.brand, result.token.last4)
""".replace("REDIS_URL", service.server.url)
    done = subprocess.run(
        [str(programs / "python"), "-W", "error", "-c", lines],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "found visa 7411\n", done.stderr
    lookup = [str(programs / "cardtoken"), "lookup", "opay", "OPAY_TOKEN_visa", "--json"]
    done = subprocess.run(
        lookup, cwd=tmp_path, env=service.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert json.loads(done.stdout)["token"]["brand"] == "visa", done.stderr
    status = [str(programs / "cardtoken"), "status"]
    done = subprocess.run(
        status, cwd=tmp_path, env=service.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "worker" in done.stdout
