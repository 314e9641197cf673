"""Packages and whole roots of a Debian suite, in folders of the caller's: nothing is installed on this machine.

From the mirrors and keys that this machine's apt has. The standard library alone.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Seconds after which a kept root is made anew, for the fixes that Debian has made since.
_KEPT: Final = 7 * 86400
#: Seconds that one download or one root may take.
_PATIENCE: Final = 300.0
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWN_CERTIFICATES: Final = Path("usr/local/share/ca-certificates")


class DebianError(Exception):
    """What was asked for cannot be had; the text says why and what to do."""


def cache(name: str) -> Path:
    """Return the folder of this name that outlives a run, outside of the checkout. It is made where it is missing."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "cardtoken" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def mirror() -> str:
    """Return the URL of the mirror that apt takes Debian's packages from. Raises DebianError where there is none."""
    query = ("apt-get", "indextargets", "--format", "$(LABEL)|$(COMPONENT)|$(REPO_URI)", "Identifier: Packages")
    for line in output(query).splitlines():
        label, component, url = line.split("|", 2)
        if (label, component) == ("Debian", "main"):
            return url
    raise DebianError("apt knows no mirror of Debian: see /etc/apt/sources.list, then `apt-get update`.")


def need_root(what: str) -> None:
    """Raise DebianError where this process is not root's; `what` is the subject of "can be made by root alone"."""
    if os.geteuid() != 0:
        raise DebianError(f"{what} can be made by root alone: run this as root or with sudo.")


def unpack(packages: Sequence[str], folder: Path) -> Path:
    """Unpack packages of this machine's own release below `folder`, and return it. What they depend on is not added.

    What is there already is not fetched again. Raises DebianError.
    """
    mark = folder / ".packages"
    wanted = " ".join(sorted(packages))
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return folder
    with made_whole(folder) as making:
        archives = making / ".archives"
        archives.mkdir(mode=0o755)
        _fetch(packages, archives)
        for archive in sorted(archives.glob("*.deb")):
            output(("dpkg", "-x", str(archive), str(making)))
        shutil.rmtree(archives)
        (making / ".packages").write_text(wanted, encoding="utf-8")
    return folder


def root(suite: str, packages: Sequence[str], folder: Path) -> Path:
    """Return the root of a minimal Debian of this suite (as trixie or sid) with the packages, below `folder`.

    It is made where it is not there yet, or older than a week: half a minute, 300 MB. This machine's own certificates
    are trusted in it where ca-certificates is among the packages. Raises DebianError: this takes root.
    """
    need_root("A Debian root (chroot, device nodes)")
    key = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:12]
    made = folder / f"{suite}-{key}"
    with locked(folder / f".{made.name}.lock"):
        if made.is_dir() and time.time() - made.stat().st_mtime < _KEPT:
            return made
        bootstrap = unpack(("debootstrap",), folder / "debootstrap")
        with made_whole(made) as making:
            _bootstrap(bootstrap, suite, packages, making)
            _trust(making)
            os.utime(making)
    return made


def remove(folder: Path) -> None:
    """Remove a folder with roots in it, after unmounting what is mounted below."""
    unmount(folder)
    shutil.rmtree(folder, ignore_errors=True)


def unmount(folder: Path) -> None:
    """Unmount all that is mounted below a folder, the innermost first."""
    below = f"{folder.resolve()}/"
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines())
    points = [point.replace("\\040", " ") for point in mounts]
    for point in sorted((each for each in points if f"{each}/".startswith(below)), reverse=True):
        subprocess.run(("/bin/umount", "--lazy", point), check=False, capture_output=True)


def _bootstrap(program: Path, suite: str, packages: Sequence[str], target: Path) -> None:
    folder = program / "usr/share/debootstrap"
    script = folder / "scripts" / suite
    if not script.exists():  # a suite younger than this machine's debootstrap
        script = folder / "scripts" / "sid"
    options = ["--variant=minbase", *([f"--include={','.join(packages)}"] if packages else [])]
    command = [str(program / "usr/sbin/debootstrap"), *options, suite, str(target), mirror(), str(script)]
    output(command, {"DEBOOTSTRAP_DIR": str(folder), "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"})
    shutil.rmtree(target / "var/cache/apt", ignore_errors=True)
    shutil.rmtree(target / "var/lib/apt/lists", ignore_errors=True)


def _trust(made: Path) -> None:
    """Let programs in the root trust the certificates that this machine's administrator has added."""
    own = Path("/") / _OWN_CERTIFICATES
    if not any(own.glob("*.crt")) or not (made / "usr/sbin/update-ca-certificates").exists():
        return
    shutil.copytree(own, made / _OWN_CERTIFICATES, dirs_exist_ok=True)
    output(("chroot", str(made), "update-ca-certificates"), {"PATH": _SYSTEM_PATH})


def _fetch(packages: Sequence[str], folder: Path) -> None:
    # As root: apt's own user may not write here, and would warn.
    command = ("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *packages)
    try:
        output(command, folder=folder)
    except DebianError:
        # apt's lists are missing or older than the mirror.
        output(("apt-get", "update", "-q"))
        output(command, folder=folder)


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, and put it in the place of `folder` once it is whole; else remove it."""
    making = folder.with_name(f"{folder.name}.part")
    remove(making)
    making.mkdir(mode=0o755, parents=True)
    try:
        yield making
        remove(folder)
        making.rename(folder)
    finally:
        remove(making)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time make what this file stands for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def output(command: Sequence[str], more: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """Return what a command writes, run with more of an environment. Raises DebianError with its last words."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **(more or {})}
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise DebianError(f"There is no {command[0]} here: this needs a Debian, or a system made of one.") from None
    except subprocess.TimeoutExpired:
        raise DebianError(f"{' '.join(command)[:200]} did not end within {_PATIENCE:.0f} s.") from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-6:])
        raise DebianError(f"{' '.join(command)[:200]} failed:\n{said}")
    return done.stdout
