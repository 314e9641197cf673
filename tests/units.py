"""deploy/systemd as systemd reads it: directives, specifiers, files of variables, credentials."""

import re
import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sandbox.environment import ROOT, clean_environment
from sandbox.processes import Child, start

FOLDER: Final = ROOT / "deploy/systemd"
WORKER: Final = "cardtoken-worker@.service"
FLOWER: Final = "cardtoken-flower.service"


def directives(name: str) -> dict[str, list[str]]:
    """Return the values of each directive of a unit, in their order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        directive, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found[directive].append(value)
    return dict(found)


def variables_of(path: Path) -> dict[str, str]:
    """Return what a file of variables sets."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


class Host:
    """A folder in place of a host's /etc/cardtoken, /var/lib and /run/credentials; the checkout is /opt/cardtoken."""

    def __init__(self, folder: Path, secrets: Mapping[str, str]) -> None:
        self._folder = folder
        self.etc = folder / "etc"
        (self.etc / "secrets").mkdir(parents=True)
        for path in FOLDER.glob("*.env"):
            shutil.copy(path, self.etc)
        for name, content in secrets.items():
            (self.etc / "secrets" / name).write_text(f"{content}\n", encoding="utf-8")

    def append(self, name: str, **variables: object) -> None:
        """Add variables to a file of variables."""
        with (self.etc / name).open("a", encoding="utf-8") as file:
            file.writelines(f"{variable}={value}\n" for variable, value in variables.items())

    def start(self, unit: str, instance: str = "") -> Child:
        """Run a unit's ExecStart with the environment and the credentials that systemd would give it."""
        found = directives(unit)
        run = self._folder / f"run-{instance or unit}"
        credentials, state = run / "credentials", run / "state"
        credentials.mkdir(parents=True)
        specifiers = {"%i": instance, "%H": "shop-1", "%d": str(credentials), "%S": str(state)}

        def expanded(text: str) -> str:
            text = re.sub(r"%[a-zA-Z%]", lambda match: specifiers[match[0]], text)
            return text.replace("/etc/cardtoken", str(self.etc))

        environment: dict[str, str] = {}
        for line in found["Environment"]:
            environment |= dict(pair.split("=", 1) for pair in shlex.split(expanded(line)))
        for path in found["EnvironmentFile"]:
            environment |= variables_of(Path(expanded(path)))
        for each in found["LoadCredential"]:
            name, _, source = expanded(each).partition(":")
            shutil.copy(source, credentials / name)
        for name in found.get("StateDirectory", ()):
            (state / name).mkdir(parents=True, mode=int(found["StateDirectoryMode"][0], 8))
        (command,) = found["ExecStart"]
        command = re.sub(r"\$\{(\w+)\}", lambda match: environment[match[1]], expanded(command))
        program = f"{found['WorkingDirectory'][0]}/venv/bin/celery "
        assert command.startswith(program)
        argv = [sys.executable, "-m", "celery", *shlex.split(command.removeprefix(program))]
        return start(argv, name=unit, cwd=ROOT, env={**clean_environment(), **environment})
