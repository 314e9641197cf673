"""deploy/kubernetes/overlays/trial, played by podman: the pods of Kubernetes, without a cluster.

podman is a newer Debian's than this machine may be. It runs in a root of its own, with namespaces of its own, on one
network that leads nowhere.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from ruamel.yaml import YAML

from tools import debian
from tools.containers.engine import Engine, EngineError

SUITE: Final = "trixie"
_PACKAGES: Final = ("podman", "runc", "catatonit", "netavark", "aardvark-dns", "nftables", "iproute2", "util-linux")
_SETTINGS: Final = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""
#: What is given to the shell: the root, and a folder for what podman stores.
_ENTER: Final = """\
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/etc/containers/networks"
mount --bind "$2" "$1/var/lib/containers"
ip link set lo up
mkdir -p "$1/oldroot"
cd "$1"
pivot_root . oldroot
umount -l /oldroot
echo ready
exec sleep infinity
"""
_KUBECTL: Final = ".venv-kubernetes/bin/kubectl"
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
#: Those that podman plays.
_KINDS: Final = ("ConfigMap", "Secret", "PersistentVolumeClaim")


def root(cache: Path) -> Path:
    """Return a Debian root with podman, from `cache` or made anew. Raises DebianError."""
    return debian.root(SUITE, _PACKAGES, cache)


class Pods:
    """podman at work in that root, until the end of the block. ``program`` is a command that is it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        folder.mkdir()
        self.program = folder / "podman"
        self._store = folder / "store"
        self._store.mkdir()
        for needed in ("etc/containers/networks", "var/lib/containers"):
            (root / needed).mkdir(parents=True, exist_ok=True)
        (root / "etc/containers/containers.conf").write_text(_SETTINGS, encoding="utf-8")
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = ["unshare", "-m", "-p", "-n", "-i", "-u", "--fork", "--kill-child", "sh", "-c", _ENTER, "enter"]
        self._holder = subprocess.Popen(
            [*command, str(self._root), str(self._store)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if self._holder.stdout is None or self._holder.stdout.readline() != "ready\n":
            raise EngineError("podman's root cannot be entered")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text(encoding="utf-8")
        enter = f"nsenter -t {children.split()[0]} -m -p -n -i -u -r -w"
        environment = f"env -i PATH={_PATH} HOME=/root PODMAN_IGNORE_CGROUPSV1_WARNING=1"
        self.program.write_text(f'#!/bin/sh\nexec {enter} {environment} podman "$@"\n', encoding="utf-8")
        self.program.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            subprocess.run([self.program, "rm", "-af", "-t", "0"], capture_output=True, timeout=60, check=False)
            self._holder.kill()
            self._holder.wait()
        debian.unmount(self._store)

    def take(self, archive: Path) -> None:
        """Take the images of an archive, with their names."""
        with archive.open("rb") as file:
            self._podman("load", "-q", stdin=file)

    def play(self, objects: list[dict[str, Any]]) -> None:
        """Play what podman can of these objects, each pod under the name that its Service has."""
        self._podman("network", "create", "--internal", "trial")
        shared = [each for each in objects if each["kind"] in _KINDS]
        self._play(shared, "--network=none")
        maps = [each for each in shared if each["kind"] == "ConfigMap"]
        for each in objects:
            if each["kind"] in {"Deployment", "Pod"}:
                self._play([*maps, playable(each)], f"--network=trial:alias={each['metadata']['name']}")

    def _play(self, objects: list[dict[str, Any]], network: str) -> None:
        text = "---\n".join(json.dumps(each) + "\n" for each in objects)
        self._podman("kube", "play", network, "-", text=text)

    def _podman(self, *arguments: str, stdin: Any = None, text: str | None = None) -> None:
        given: dict[str, Any] = {"input": text} if text is not None else {"stdin": stdin or subprocess.DEVNULL}
        done = subprocess.run(
            [self.program, *arguments], capture_output=True, text=text is not None, timeout=180, check=False, **given
        )
        if done.returncode:
            raise EngineError(f"podman {' '.join(arguments)[:100]} failed:\n{done.stdout!s}\n{done.stderr!s}"[-3000:])


def trial(engine: Engine, app: Path, checkout: Path) -> list[dict[str, Any]]:
    """Return the objects of the trial overlay, as docs/kubernetes.md makes them, and its operator's pod."""
    overlay = app / "deploy/kubernetes/overlays/trial"
    engine.output(("sh", "deploy/secrets.sh", "--simulator"), folder=app, more={"SECRETS": str(overlay / "secrets")})
    kubectl = str(checkout / _KUBECTL)
    rendered = engine.output((kubectl, "kustomize", str(overlay)))
    secret = (kubectl, "create", "secret", "generic", "operator", "--dry-run=client", "-o", "yaml")
    operator = engine.output((*secret, f"--from-file={overlay}/secrets/operator_redis_url"))
    pod = (app / "deploy/kubernetes/operator.yaml").read_text(encoding="utf-8")
    return [each for text in (rendered, operator, pod) for each in YAML(typ="safe").load_all(text)]


def playable(declared: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment or Pod as podman can play it.

    podman has one replica, asks for HTTP with a curl in the container, which ours has not, and knows no fsGroup.
    """
    made: dict[str, Any] = json.loads(json.dumps(declared))
    pod = made["spec"]
    if made["kind"] == "Deployment":
        made["spec"]["replicas"] = 1
        pod = pod["template"]["spec"]
    for volume in pod.get("volumes", ()):
        if "secret" in volume:
            volume["secret"]["defaultMode"] = 0o444
    for container in pod["containers"]:
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for name in [each for each in container if each.endswith("Probe")]:
            container[name] = {**container[name], **_asked_by_python(container[name], ports)}
            for replaced in ("httpGet", "tcpSocket"):
                container[name].pop(replaced, None)
    return made


def _asked_by_python(probe: dict[str, Any], ports: dict[str, int]) -> dict[str, Any]:
    if "exec" in probe:
        return {}
    if "tcpSocket" in probe:
        port = ports[probe["tcpSocket"]["port"]]
        source = f"import socket; socket.create_connection(('127.0.0.1', {port}), 4)"
    else:
        url = f"http://127.0.0.1:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        source = f"import urllib.request; urllib.request.urlopen('{url}', timeout=4)"
    return {"exec": {"command": ["python", "-c", source]}}


def tried(engine: Engine, made: Path, app: Path, checkout: Path, names: Iterable[str]) -> int:
    """Play the trial overlay with an engine's images and run tests/containers/pods.py; return pytest's status."""
    objects = trial(engine, app, checkout)
    archive = engine.folder / "images.tar"
    engine.docker("save", "-o", str(archive), *names, timeout=120)
    with Pods(made, engine.folder / "pods") as pods:
        pods.take(archive)
        pods.play(objects)
        (engine.folder / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
        environment = {
            **engine.environment,
            "CARDTOKEN_PODS": str(pods.program),
            "CARDTOKEN_OBJECTS": str(engine.folder / "objects.json"),
        }
        command = [sys.executable, "-m", "pytest", "-m", "containers", "-q", "tests/containers/test_pods.py"]
        return subprocess.run(command, cwd=checkout, env=environment, check=False).returncode
