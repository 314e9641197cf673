"""What is asked of the engine about the containers that ``make containers`` has started."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The services of docker-compose.yml that run here; monitoring's images cannot be had without a registry.
SERVICES = ("redis", "interactive", "bulk", "flower", "simulator")


class Containers:
    """docker and docker-compose in the folder of the started project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, *command: str, timeout: float = 60, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The ended command, whatever its status."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **(more or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def docker(self, *arguments: str, timeout: float = 60) -> str:
        done = self.run("docker", *arguments, timeout=timeout)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def compose(self, *arguments: str, timeout: float = 90, more: Mapping[str, str] | None = None) -> str:
        done = self.run("docker-compose", *arguments, timeout=timeout, more=more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def inspect(self, service: str) -> dict[str, Any]:
        [found] = json.loads(self.docker("inspect", self.container(service)))
        return dict(found)

    def container(self, service: str) -> str:
        return f"cardtoken-{service}-1"

    def processes(self, service: str) -> dict[int, str]:
        """Command lines by number, as the host has them."""
        lines = self.docker("top", self.container(service), "-o", "pid,args").splitlines()[1:]
        return {int(number): command for number, command in (line.split(None, 1) for line in lines)}

    def process(self, service: str, begins: str) -> int:
        """The number of the one process whose command line has this."""
        [found] = [number for number, command in self.processes(service).items() if begins in command]
        return found

    def health(self, service: str) -> str:
        return str(self.inspect(service)["State"]["Health"]["Status"])

    def secret(self, name: str) -> str:
        return (self.folder / "deploy/secrets" / name).read_text(encoding="utf-8").strip()
