"""Programs of other Debian suites that run on this machine as it is: nothing is installed, and no rights are needed.

They are unpacked with all that they depend on, and are told where the loader and the libraries of their suite are.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools import debian

#: Seconds after which a program is fetched anew, for the fixes that Debian has made since.
_KEPT: Final = 7 * 86400
_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_WHEELS: Final = "/usr/share/python-wheels/"


def program(name: str, suites: Sequence[str], packages: Sequence[str], folder: Path) -> Path:
    """Return the program out of packages of the suites, in a folder where it is alone. All is kept below `folder`.

    The packages are as apt-get takes them. Fetched where it is not there yet, or older than a week: 10 seconds.
    Raises DebianError.
    """
    made = folder / name
    with debian.locked(folder / f".{name}.lock"):
        if not made.is_dir() or time.time() - made.stat().st_mtime >= _KEPT:
            tool = debian.unpack(("patchelf",), folder / "patchelf") / "usr/bin/patchelf"
            with debian.made_whole(made) as making:
                _unpack(suites, packages, making)
                _settle(name, making, made, tool)
                os.utime(making)
    return made / "bin" / name


def _unpack(suites: Sequence[str], packages: Sequence[str], making: Path) -> None:
    """Unpack packages with what they depend on, as apt finds it for a machine that has nothing."""
    apt = making / ".apt"
    for each in ("lists/partial", "archives/partial"):
        (apt / each).mkdir(parents=True)
    (apt / "status").touch()
    sources = "".join(f"deb [signed-by={_KEYS}] {debian.mirror()} {suite} main\n" for suite in suites)
    (apt / "sources.list").write_text(sources, encoding="utf-8")
    options = {
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Install-Recommends": "false",
        # apt's own user may not write here, and would warn.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    command = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    debian.output([*command, "update"])
    debian.output([*command, "install", "--yes", "--download-only", *packages])
    for archive in sorted((apt / "archives").glob("*.deb")):
        debian.output(("dpkg", "-x", str(archive), str(making)))
    debian.remove(apt)


def _settle(name: str, making: Path, made: Path, patchelf: Path) -> None:
    """Tell the program of its loader, its libraries and (a Python) its wheels, where they will be: below `made`."""
    found = (making / "usr/bin" / name).resolve()
    loader = Path(debian.output((str(patchelf), "--print-interpreter", str(found))).strip()).name
    loaders = [path.relative_to(making) for path in making.rglob(loader)]
    libraries = sorted({path.parent.relative_to(making) for path in making.rglob("libc.so.6")})
    if not loaders or not libraries:
        raise debian.DebianError(f"The packages of {name} come without {loader} or libc.so.6.")
    where = ":".join(str(made / each) for each in libraries)
    # Of what is linked to it, too: --force-rpath.
    settled = ("--set-interpreter", str(made / loaders[0]), "--force-rpath", "--set-rpath", where)
    target = making / "usr/bin" / name
    patched = making / f"{name}.patched"
    debian.output((str(patchelf), *settled, "--output", str(patched), str(found)))
    patched.chmod(0o755)
    patched.replace(target)
    # Alone: what else is there is not made to run here, and would hide this machine's own on PATH.
    (making / "bin").mkdir()
    (making / "bin" / name).symlink_to(f"../usr/bin/{name}")
    for path in making.glob("usr/lib/python3.*/_sysconfig*"):
        text = path.read_text(encoding="utf-8")
        for quote in "'\"":
            text = text.replace(f"{quote}{_WHEELS}{quote}", f"{quote}{made}{_WHEELS}{quote}")
        path.write_text(text, encoding="utf-8")
