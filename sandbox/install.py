"""Make a virtual environment from locked requirements, and show how far that is.

This runs before anything is installed: the standard library alone.
"""

import argparse
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

#: Seconds between two lines where there is no terminal.
_PAUSE = 5.0


class InstallProgress:
    """A line that is written over on a terminal, and one each few seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began = self._shown = time.monotonic()

    def show(self, text: str, *, last: bool = False) -> None:
        """Show the text; on a terminal in place of the one before."""
        now = time.monotonic()
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\033[K{text[:width]}" + ("\n" if last else ""))
        elif last or now - self._shown >= _PAUSE:
            self._shown = now
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began


class Installation:
    """pip at work in a virtual environment."""

    def __init__(self, venv: Path, requirements: Path, progress: InstallProgress) -> None:
        self._venv = venv
        self._requirements = requirements
        self._progress = progress
        names = re.findall(r"^[A-Za-z0-9][^\s=]*==", requirements.read_text(encoding="utf-8"), re.MULTILINE)
        self._total = len(names)
        self._collected = 0
        self._current = ""

    def run(self) -> int:
        """Install; return pip's exit status, its last words shown where it is not 0."""
        command = _pip(self._venv, "--progress-bar", "off", "--require-hashes", "-r", str(self._requirements))
        said = []
        with subprocess.Popen(  # noqa: S603 - our own command
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as pip:
            over = threading.Event()
            watching = threading.Thread(target=self._watch, args=(over,))
            watching.start()
            try:
                for line in pip.stdout or ():
                    said.append(line)
                    if line.startswith("Collecting "):
                        self._collected += 1
                        self._current = line.split()[1].split("=")[0]
            finally:
                over.set()
                watching.join()
        if pip.returncode:
            self._progress.show(f"{self._venv}: pip failed", last=True)
            sys.stderr.writelines(line for line in said[-15:] if not line.startswith("WARNING: Location"))
            sys.stderr.write("Is the package index within reach? pip's own settings say which it is (PIP_INDEX_URL).\n")
        return pip.returncode

    def _watch(self, over: threading.Event) -> None:
        before = self._installed()
        while not over.wait(0.2):
            installed = self._installed() - before
            if installed > 0:
                self._progress.show(f"{self._venv}: installed {installed} of {self._total} packages")
            else:
                self._progress.show(
                    f"{self._venv}: collected {self._collected} of {self._total} packages {self._current}"
                )

    def _installed(self) -> int:
        return sum(1 for _ in self._venv.glob("lib/python*/site-packages/*.dist-info"))


def _pip(venv: Path, *args: str) -> list[str]:
    # Compiled as they are used: of the tools most modules never are.
    return [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", *args]


def main() -> int:
    """Make it; return 0, or the status of what failed."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.install", description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--editable", action="store_true", help="install this project too, as it stands here")
    options = parser.parse_args()
    version = ".".join(map(str, sys.version_info[:3]))
    progress = InstallProgress()
    progress.show(f"{options.venv}: made with Python {version} ({sys.executable})", last=True)
    venv = [sys.executable, "-m", "venv", "--clear", str(options.venv)]
    # In a session of its own: Ctrl-C ends it from here, without a traceback of its own.
    made = subprocess.run(venv, check=False, start_new_session=True)  # noqa: S603 - our own command
    if made.returncode:
        return made.returncode
    if status := Installation(options.venv, options.requirements, progress).run():
        return status
    if options.editable:
        project = _pip(options.venv, "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
        done = subprocess.run(project, check=False)  # noqa: S603 - our own command
        if done.returncode:
            return done.returncode
    progress.show(f"{options.venv}: ready after {progress.seconds:.0f} s", last=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command begins anew")
