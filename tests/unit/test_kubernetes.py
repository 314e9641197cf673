"""deploy/kubernetes declares what the code knows: settings, queues, ports, files of secrets, images, users, times."""

import re
import subprocess
from typing import Any

import pytest

from cardtoken.contract import Lane
from cardtoken.keys import queue_name
from config.settings import Settings, _known
from sandbox.environment import ROOT
from tasks.providers import PROVIDERS
from tasks.worker import _STOP_SECONDS
from tests.manifests import FOLDER, OVERLAYS, SECRETS, pods, secret_files, written
from tools.prometheus_rules import TARGET, prometheus_rules

#: Seconds of the container's own: a signal that reaches process 1 late, a process that starts to end.
_OWN_SECONDS = 5
KNOWN = _known({name: provider.account for name, provider in PROVIDERS.items()})
OBJECTS = [each for _, each in written()]
PODS = pods(OBJECTS)
CONTAINERS = {name: container for name, pod in PODS.items() for container in pod["containers"]}
WORKERS = {lane: f"cardtoken-{lane}" for lane in Lane}


def environment(name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in CONTAINERS[name].get("env", ())}


def literals() -> dict[str, str]:
    """The settings that kustomizations put into ConfigMaps."""
    made = [each for found in OBJECTS for each in found.get("configMapGenerator", ())]
    pairs = [text.partition("=") for each in made for text in each.get("literals", ())]
    return {name: value for name, _, value in pairs}


def deployment(name: str) -> dict[str, Any]:
    (found,) = (each for each in OBJECTS if each["kind"] == "Deployment" and each["metadata"]["name"] == name)
    return found


def test_every_variable_of_a_worker_is_a_setting() -> None:
    for name in WORKERS.values():
        assert set(environment(name)) <= KNOWN, name
    assert set(literals()) <= KNOWN


def test_every_variable_of_flower_is_its_own_or_a_setting() -> None:
    flower = set(environment("cardtoken-flower"))
    own = {name for name in flower if name.startswith("FLOWER_")}
    assert flower - own <= KNOWN
    source = (ROOT / "config/flowerconfig.py").read_text(encoding="utf-8")
    assert own == {"FLOWER_BASIC_AUTH_FILE", "FLOWER_DB"}
    assert "FLOWER_BASIC_AUTH_FILE" in source
    assert "FLOWER_DB" in source


def test_no_secret_is_a_variable() -> None:
    secrets = {
        name.removesuffix("_FILE") for name in KNOWN if name.removesuffix("_FILE") in KNOWN and name.endswith("_FILE")
    }
    assert {"REDIS_URL", "SENTRY_DSN", "OPAY_PRIVATE_KEY"} <= secrets
    for name in CONTAINERS:
        assert secrets.isdisjoint(environment(name)), name
    assert secrets.isdisjoint(literals())


def test_every_declared_queue_is_consumed_by_the_deployment_of_its_lane() -> None:
    for lane, name in WORKERS.items():
        args = CONTAINERS[name]["args"]
        assert args[:4] == ["celery", "-A", "tasks", "worker"]
        assert args[args.index("-Q") + 1].split(",") == [queue_name(provider, lane) for provider in PROVIDERS]
        assert args[args.index("-n") + 1] == f"{lane}@%h"


def test_both_lanes_are_deployed_alike() -> None:
    texts = {lane: (FOLDER / f"base/{lane}.yaml").read_text(encoding="utf-8") for lane in Lane}
    alike = {re.sub(r"replicas: \d+", "", text.replace(lane, "LANE")) for lane, text in texts.items()}
    assert len(alike) == 1


def test_a_pod_that_stops_is_given_the_time_that_a_worker_may_take() -> None:
    longest = float(literals().get("HTTP_TOTAL_TIMEOUT", Settings.model_fields["http_total_timeout"].default))
    for name in WORKERS.values():
        assert PODS[name]["terminationGracePeriodSeconds"] >= longest + _STOP_SECONDS + _OWN_SECONDS, name


def test_probes_and_prometheus_ask_where_a_worker_listens() -> None:
    (monitor,) = (each for each in OBJECTS if each["kind"] == "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for name in WORKERS.values():
        ports = {each["name"]: str(each["containerPort"]) for each in CONTAINERS[name]["ports"]}
        told = environment(name)
        assert ports == {"metrics": told["METRICS_PORT"], "health": told["HEALTH_PORT"]}
        assert endpoint["port"] in ports
        assert {told["METRICS_HOST"], told["HEALTH_HOST"]} == {"0.0.0.0"}  # noqa: S104 - of the pod
        paths = {kind: CONTAINERS[name][f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {each["port"] for each in paths.values()} == {"health"}
        assert [paths[kind]["path"] for kind in paths] == ["/livez", "/livez", "/readyz"]
    served = (ROOT / "tasks/probes/probes.py").read_text(encoding="utf-8")
    assert '"/livez"' in served
    assert '"/readyz"' in served
    # The alerts ask for a job of this name.
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
    assert deployment("cardtoken-bulk")["metadata"]["labels"]["app.kubernetes.io/name"] == "cardtoken"
    assert 'job="cardtoken"' in (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_has_the_files_that_its_variables_name_and_no_other(overlay: str) -> None:
    made = secret_files(FOLDER / "overlays" / overlay)
    for name, pod in PODS.items():
        mounted = [volume["secret"] for volume in pod.get("volumes", ()) if "secret" in volume]
        named = {value.removeprefix(SECRETS) for value in environment(name).values() if value.startswith(SECRETS)}
        if not mounted or mounted[0]["secretName"] not in made:
            assert name in {"redis", "simulator", "cardtoken-metrics"}, "a component's, which this overlay leaves out"
            continue
        (secret,) = mounted
        assert {file.rpartition("/")[2] for file in made[secret["secretName"]]} == named, name
        # Read through the group, which fsGroup sets.
        assert secret["defaultMode"] == 0o440
        (mount,) = (each for each in CONTAINERS[name]["volumeMounts"] if each["name"] == "secrets")
        assert (f"{mount['mountPath']}/", mount["readOnly"], "subPath" in mount) == (SECRETS, True, False)


def test_redis_has_a_password_for_each_of_its_users() -> None:
    users = re.findall(r"^user (\w+) on ", (ROOT / "deploy/redis/users.acl").read_text(encoding="utf-8"), re.MULTILINE)
    # These are there only where they have a password: who tries the service scales nothing.
    users = [user for user in users if user not in {"scaler", "metrics"}]
    assert environment("redis") == {f"{user.upper()}_PASSWORD_FILE": f"{SECRETS}{user}_password" for user in users}


def test_no_secret_is_committed() -> None:
    for overlay in OVERLAYS:
        for file in (each for files in secret_files(FOLDER / "overlays" / overlay).values() for each in files):
            assert re.fullmatch(r"secrets/[a-z_.]+", file)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/deploy/kubernetes/overlays/*/secrets/" in ignored
    listed = subprocess.run(["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert [line for line in listed.splitlines() if "/secrets/" in line] == []
    assert [each for each in OBJECTS if each["kind"] == "Secret"] == []


def test_pods_run_the_images_and_the_user_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    (uid,) = set(re.findall(r"--uid (\d+)", dockerfile))
    for name, container in CONTAINERS.items():
        context = PODS[name]["securityContext"]
        if name == "redis":
            assert f"image: {container['image']}\n" in compose
            continue
        assert container["image"].removeprefix("cardtoken-") in re.findall(r" AS ([\w-]+)", dockerfile)
        assert (context["runAsUser"], context["runAsGroup"]) == (int(uid), int(uid)), name
    mounts = {each["mountPath"] for each in CONTAINERS["cardtoken-flower"]["volumeMounts"]}
    assert environment("cardtoken-flower")["FLOWER_DB"].rpartition("/")[0] in mounts


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_may_do_nothing_beyond_its_work(name: str) -> None:
    pod, container = PODS[name], CONTAINERS[name]
    accounts = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == "ServiceAccount"}
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["serviceAccountName"] == name
    assert accounts[name]["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert set(container["resources"]["limits"]) - {"ephemeral-storage"} == {"memory"}
    assert "readinessProbe" in container


def test_a_rollout_never_has_fewer_workers() -> None:
    budgets = [each for each in OBJECTS if each["kind"] == "PodDisruptionBudget"]
    for name in WORKERS.values():
        spec = deployment(name)["spec"]
        assert spec["replicas"] >= 2
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        (budget,) = (each["spec"] for each in budgets if each["metadata"]["name"] == name)
        assert budget["maxUnavailable"] == 1, "a number of pods that must be there would hold up a drain of one"


def test_the_rules_for_the_operator_are_those_of_prometheus() -> None:
    assert TARGET.read_text(encoding="utf-8") == prometheus_rules(), "run `make rules`"
