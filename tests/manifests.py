"""What deploy/kubernetes declares: as it is written, and as kustomize puts it together."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from sandbox.environment import ROOT

FOLDER: Final = ROOT / "deploy/kubernetes"
OVERLAYS: Final = tuple(sorted(path.parent.name for path in (FOLDER / "overlays").glob("*/kustomization.yaml")))
#: Where secrets are, in each container.
SECRETS: Final = "/run/secrets/cardtoken/"
#: `make trials` makes it, from requirements/kubernetes.txt.
_PROGRAMS: Final = ROOT / ".venv-kubernetes/bin"

_OF_OPERATORS: Final = re.compile(r"^(keda\.sh|monitoring\.coreos\.com)/")


def documents(text: str) -> list[dict[str, Any]]:
    """Return the objects in a text of YAML."""
    return [each for each in YAML(typ="safe").load_all(text) if each]


def written() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Return each object as it is written, with its file; those of kustomize itself too."""
    for path in sorted([*FOLDER.rglob("*.yaml"), *(ROOT / "deploy/redis").glob("*.yaml")]):
        yield from ((path, each) for each in documents(path.read_text(encoding="utf-8")))


def pods(objects: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the specification of each Deployment's pods by the Deployment's name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Deployment"
    }


def secret_files(overlay: Path) -> dict[str, list[str]]:
    """Return by Secret the files that it is made of, relative to the overlay."""
    (kustomization,) = documents((overlay / "kustomization.yaml").read_text(encoding="utf-8"))
    return {each["name"]: list(each["files"]) for each in kustomization.get("secretGenerator", ())}


def rendered(overlay: Path) -> str:
    """Return what `kubectl apply -k` would send. Raises ``AssertionError`` with what kustomize says."""
    done = run("kubectl", "kustomize", str(overlay))
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment that `make trials` has made."""
    command = [str(_PROGRAMS / program), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def judged_strictly(objects: list[dict[str, Any]], folder: Path, release: str) -> list[str]:
    """Return what is wrong with objects by the schemas of that release of Kubernetes, and of the operators."""
    own = [each for each in objects if not _OF_OPERATORS.search(each["apiVersion"])]
    path = folder / "objects.yaml"
    path.write_text("---\n".join(json.dumps(each) + "\n" for each in own), encoding="utf-8")
    done = run("kubernetes-validate", "--strict", "--quiet", "-k", release, str(path))
    faults = (done.stdout + done.stderr).replace(f"{path} ", "").splitlines()
    assert bool(faults) or done.returncode == 0
    foreign = [each for each in objects if each not in own]
    return faults + (_judged_by_operators(foreign) if foreign else [])


def newest_release() -> str:
    """Return the newest release of Kubernetes whose schemas are there, as 1.37."""
    lock = (ROOT / "requirements/kubernetes.txt").read_text(encoding="utf-8")
    found = re.search(r"^kubernetes-validate==(\d+\.\d+)", lock, re.MULTILINE)
    assert found is not None
    return found[1]


def _judged_by_operators(objects: list[dict[str, Any]]) -> list[str]:
    lines = "".join(json.dumps(each) + "\n" for each in objects)
    command = ["node", "judge_object.mjs"]
    folder = ROOT / "tests/node"
    done = subprocess.run(command, cwd=folder, input=lines, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
