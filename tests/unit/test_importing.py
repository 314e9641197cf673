"""Importing a module starts nothing and reads no settings, in this repository or in a program that uses the package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.environment import ROOT

PACKAGES = ("cardtoken", "config", "tasks", "simulator", "sandbox", "soak", "bench", "tools")
#: What Celery and Flower load as a configuration: the application, and Flower's settings.
PROGRAMS = {"tasks.celery", "config.flowerconfig"}
#: Programs of other task queues, written as their documentation shows, for environments that have them installed.
PEERS = "bench.peers."


def modules() -> list[str]:
    """Return the names of all modules but programs."""
    paths = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return sorted(name for name in names - PROGRAMS if not name.startswith(PEERS) and not name.endswith(".__main__"))


def findings(root: Path, folder: Path, *names: str) -> list[str]:
    """Return what imports do that they should not, in an empty environment and in a folder with a wrong ``.env``."""
    (folder / ".env").write_text("REDIS_URL=of-no-scheme\nHTTP_READ_TIMEOUT=soon\n", encoding="utf-8")
    program = Path(__file__).with_name("importing.py")
    command = [sys.executable, "-P", str(program), str(root), *names]
    done = subprocess.run(command, env={}, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return [*found, f"an import writes {done.stderr!r}"] if done.stderr else found


def test_importing_any_module_starts_nothing_and_reads_no_settings(tmp_path: Path) -> None:
    names = modules()
    assert len(names) > 150
    assert {"tasks.worker", "tasks.build", "config.settings", "config.celeryconfig", "cardtoken.cli"} <= set(names)
    assert findings(ROOT, tmp_path, *names) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os; VALUE = os.environ.get('REDIS_URL')", "planted.py:1 reads REDIS_URL from the environment"),
        ("import os; VALUE = os.getenv('REDIS_URL', '')", "planted.py:1 reads REDIS_URL from the environment"),
        ("import os; VALUE = {**os.environ}", "planted.py:1 reads the environment"),
        ("import os; os.environ.setdefault('A', 'b')", "planted.py:1 sets A in the environment"),
        ("from dotenv import load_dotenv; load_dotenv('.env')", "planted.py:1 opens .env"),
        ("import sys; print('here', file=sys.stderr)", "an import writes 'here"),
        ("import threading; threading.Thread(target=int, daemon=True).start()", "planted.py:1 starts a thread"),
        ("import socket; HERE = socket.socket()", "planted.py:1 does socket.__new__"),
        ("import subprocess; subprocess.run(['/bin/true'])", "planted.py:1 does subprocess.Popen"),
        ("import signal; signal.signal(signal.SIGTERM, print)", "an import changes signal handlers"),
        ("import sys; sys.excepthook = print", "an import changes sys.excepthook"),
        ("open('left', 'w').close()", "planted.py:1 opens left"),
        ("raise SystemExit(3)", "importing planted ends the process with 3"),
        ("1 / 0", "importing planted raises ZeroDivisionError"),
        # What the program itself does, which no other module may import therefore.
        ("import tasks.celery", "config/environment.py:"),
        ("import tasks.celery", "importing planted ends the process with 78"),
    ],
)
def test_a_module_that_does_more_than_define_things_is_noticed(tmp_path: Path, code: str, expected: str) -> None:
    here, root = tmp_path / "here", tmp_path / "root"
    here.mkdir()
    root.mkdir()
    for package in ("config", "tasks", "cardtoken"):
        (root / package).symlink_to(ROOT / package)
    (root / "planted.py").write_text(code, encoding="utf-8")
    found = findings(root, here, "planted")
    assert any(expected in each for each in found), found
