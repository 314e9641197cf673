"""The pods of deploy/kubernetes, played by podman: lookups, probes, secrets, confinement, the end."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.waiting import until
from tests.manifests import SECRETS, pods
from tools.containers.pods import playable

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

WORKERS = ("cardtoken-interactive", "cardtoken-bulk")


class Podman:
    """podman, where ``make containers`` has let it play the trial overlay."""

    def __init__(self, program: str, objects: list[dict[str, Any]]) -> None:
        self._program = program
        self.pods = pods(playable(each) for each in objects if each["kind"] == "Deployment")

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self._program, *arguments], capture_output=True, text=True, timeout=timeout, check=False)

    def output(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def container(self, deployment: str) -> str:
        return f"{deployment}-pod-{self.pods[deployment]['containers'][0]['name']}"

    def inside(self, deployment: str, *command: str) -> str:
        return self.output("exec", self.container(deployment), *command)

    def passes(self, deployment: str, probe: str) -> bool:
        command = self.pods[deployment]["containers"][0][f"{probe}Probe"]["exec"]["command"]
        return self.run("exec", self.container(deployment), *command).returncode == 0

    def awaits(self, deployment: str, *, ready: bool) -> None:
        until(lambda: self.passes(deployment, "readiness") is ready or None, 60, 0.5)


@pytest.fixture(scope="module")
def podman() -> Podman:
    program, objects = (os.environ.get(f"CARDTOKEN_{name}") for name in ("PODS", "OBJECTS"))
    if not program or not objects:
        pytest.skip("`make containers` plays the pods after the containers")
    made = Podman(program, json.loads(Path(objects).read_text(encoding="utf-8")))
    try:
        for deployment in made.pods:
            made.awaits(deployment, ready=True)
    except TimeoutError as error:
        error.add_note(made.run("logs", made.container(deployment)).stderr[-2000:])
        raise
    return made


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize(("provider", "reference"), [("opay", "OPAY_TOKEN_visa"), ("afterpay", "visa")])
def test_a_lookup_of_each_provider_and_lane_is_found(podman: Podman, provider: str, reference: str, lane: str) -> None:
    command = ("cardtoken", "lookup", provider, reference, "--lane", lane, "--json")
    found = json.loads(podman.output("exec", "operator-operator", *command))
    assert (found["status"], found["provider"], found["token"]["brand"]) == ("found", provider, "visa")


def test_every_probe_passes(podman: Podman) -> None:
    probes = [
        (deployment, name.removesuffix("Probe"))
        for deployment, pod in podman.pods.items()
        for name in pod["containers"][0]
        if name.endswith("Probe")
    ]
    assert len(probes) == 11
    assert [each for each in probes if not podman.passes(*each)] == []


def test_a_pod_sees_its_own_secrets_and_can_do_nothing(podman: Podman) -> None:
    for deployment in (*WORKERS, "cardtoken-flower"):
        environment = {each["name"]: each["value"] for each in podman.pods[deployment]["containers"][0]["env"]}
        named = {value.removeprefix(SECRETS) for value in environment.values() if value.startswith(SECRETS)}
        assert set(podman.inside(deployment, "ls", SECRETS).split()) == named
        status = podman.inside(deployment, "cat", "/proc/self/status")
        capabilities = [line.split()[1] for line in status.splitlines() if line.startswith("Cap")]
        assert {int(each, 16) for each in capabilities} == {0}
        assert podman.inside(deployment, "id", "-u").strip() == "10001"
        touched = podman.run("exec", podman.container(deployment), "touch", "/srv/x")
        assert "Read-only file system" in touched.stderr
        shown = podman.inside(deployment, "env")
        assert "redis://" not in shown
        assert "FLOWER_PORT" not in shown


def test_a_redis_that_hangs_makes_no_pod_restart(podman: Podman) -> None:
    container = podman.container("redis")
    podman.output("pause", container)
    try:
        for deployment in WORKERS:
            podman.awaits(deployment, ready=False)
            assert podman.passes(deployment, "liveness")
        assert podman.passes("cardtoken-flower", "liveness")
    finally:
        podman.output("unpause", container)
    for deployment in (*WORKERS, "cardtoken-flower"):
        podman.awaits(deployment, ready=True)


def test_a_pod_that_is_stopped_ends_in_order_within_its_time(podman: Podman) -> None:
    for deployment in (*WORKERS, "cardtoken-flower"):
        container = podman.container(deployment)
        grace = podman.pods[deployment]["terminationGracePeriodSeconds"]
        began = time.monotonic()
        podman.output("stop", "-t", str(grace), container)
        assert time.monotonic() - began < grace
        assert podman.output("inspect", container, "--format", "{{.State.ExitCode}}").strip() == "0"
