"""Stand-ins for the images of a registry, made of Debian's packages and tagged with the names that our files have.

One Debian with the same Python and a current Redis stands for both.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tools import debian
from tools.containers.engine import Engine

SUITE: Final = "forky"
PACKAGES: Final = ("python3.14", "python3.14-venv", "redis-server", "ca-certificates")
#: The image's user, by whose number docker-compose.yml calls it.
_REDIS: Final = "999"
#: What Redis' image has as its entrypoint does nothing for a user other than root.
_ENTRYPOINT: Final = '#!/bin/sh\nexec "$@"\n'


def names(root: Path) -> list[str]:
    """Return the names that Dockerfile and docker-compose.yml take from a registry, Python's and Redis'."""
    python = re.findall(r"^FROM (\S+:\S+) ", (root / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    redis = re.findall(r"image: (redis:\S+)", (root / "docker-compose.yml").read_text(encoding="utf-8"))
    return [*python, *redis]


def base(cache: Path) -> Path:
    """Return a Debian root for all of them, from `cache` or made anew. Raises DebianError."""
    made = debian.root(SUITE, PACKAGES, cache)
    if not (made / "usr/local/bin/docker-entrypoint.sh").exists():
        for name in ("python", "python3", "python3.14"):
            link = made / "usr/local/bin" / name
            link.unlink(missing_ok=True)
            link.symlink_to("/usr/bin/python3.14")
        shutil.rmtree(made / "data", ignore_errors=True)
        (made / "data").mkdir()
        shutil.chown(made / "data", int(_REDIS), int(_REDIS))
        entrypoint = made / "usr/local/bin/docker-entrypoint.sh"
        entrypoint.write_text(_ENTRYPOINT, encoding="utf-8")
        entrypoint.chmod(0o755)
    return made


def newer_python(root: Path, checkout: Path) -> str:
    """Return the patch release of Python that Debian has, where the Dockerfile names an older one, else nothing."""
    said = subprocess.run(
        ("/usr/sbin/chroot", str(root), "/usr/bin/python3.14", "--version"), capture_output=True, text=True, check=True
    ).stdout
    numbers = [[int(part) for part in re.findall(r"\d+", text)[:3]] for text in (said, names(checkout)[0])]
    return said.split()[1] if numbers[0] > numbers[1] else ""


def load(engine: Engine, root: Path, checkout: Path) -> None:
    """Give the root to the engine, under each of the names."""
    python, redis = names(checkout)
    with subprocess.Popen(("/bin/tar", "-C", str(root), "-c", "."), stdout=subprocess.PIPE) as tar:
        path = 'ENV PATH="/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"'
        engine.docker("import", "--change", path, "-", python, timeout=120, stdin=tar.stdout)
    dockerfile = f'FROM {python}\nENTRYPOINT ["docker-entrypoint.sh"]\nWORKDIR /data\nVOLUME /data\n'
    folder = engine.folder / "redis"
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    engine.docker("build", "-q", "-t", redis, str(folder), timeout=120)
