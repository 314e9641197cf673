"""deploy/kubernetes, put together by kustomize: each object is judged strictly, and what it names is there."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import ROOT
from tests.manifests import OVERLAYS, documents, judged_strictly, newest_release, pods, rendered, secret_files

pytestmark = pytest.mark.tools

#: docs/kubernetes.md names it.
OLDEST = "1.31"
Objects = list[dict[str, Any]]
#: The overlays, and one with every component for a cluster that has operators.
ALL = (*OVERLAYS, "scaled")
SCALED = """
namespace: cardtoken
resources: [../example]
components: [../../components/keda]
secretGenerator:
  - {name: cardtoken-scaler, files: [secrets/address, secrets/username, secrets/password]}
  - {name: cardtoken-metrics, files: [secrets/metrics_redis_url]}
"""


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Objects]:
    """The objects of each overlay, made with the secrets that an operator has put beside it."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets"))
    scaled = folder / "deploy/kubernetes/overlays/scaled"
    scaled.mkdir()
    (scaled / "kustomization.yaml").write_text(SCALED)
    made = {}
    for name in ALL:
        overlay = folder / "deploy/kubernetes/overlays" / name
        for files in secret_files(overlay).values():
            for file in files:
                (overlay / file).parent.mkdir(exist_ok=True)
                (overlay / file).write_text("planted")
        made[name] = documents(rendered(overlay))
    return made


@pytest.mark.parametrize("release", [OLDEST, newest_release()])
def test_every_object_is_one_that_kubernetes_and_its_operators_know(
    overlays: dict[str, Objects], release: str, tmp_path: Path
) -> None:
    objects: Objects = []
    for each in (each for found in overlays.values() for each in found):
        anywhere = {**each, "metadata": {**each["metadata"], "namespace": "anywhere"}}
        if anywhere not in objects:
            objects.append(anywhere)
    assert {each["kind"] for each in objects} >= {
        "Deployment",
        "NetworkPolicy",
        "PodMonitor",
        "PrometheusRule",
        "ScaledObject",
    }
    assert judged_strictly(objects, tmp_path, release) == []


def fields(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Each field of an object, but for those that hold names of one's own."""
    if isinstance(value, list):
        for each in value:
            yield from fields(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield value, name
            free = isinstance(each, dict) and any("/" in key for key in each)
            if not free and name not in {"annotations", "data", "labels", "limits", "metadata", "requests"}:
                yield from fields(each)


def test_a_misspelt_field_is_found_in_each_kind_and_at_each_depth(overlays: dict[str, Objects], tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {}
    for each in (each for found in overlays.values() for each in found):
        kinds.setdefault(each["kind"], each)
    planted: Objects = []
    for each in kinds.values():
        last = len(list(fields(each))) - 1
        for number in (0, last // 2, last):
            wrong = copy.deepcopy(each)
            holder, name = list(fields(wrong))[number]
            holder[f"{name}Misspelt"] = copy.deepcopy(holder[name])
            wrong["metadata"]["name"] = f"planted-{len(planted)}"
            planted.append(wrong)
    assert len(planted) > 20
    faults = "\n".join(judged_strictly(planted, tmp_path, newest_release()))
    names = [each["metadata"]["name"] for each in planted]
    assert [name for name in names if f"/{name} " not in faults and f" {name}:" not in faults] == []


@pytest.mark.parametrize("name", ALL)
def test_what_a_pod_names_is_among_the_objects(overlays: dict[str, Objects], name: str) -> None:
    objects = overlays[name]
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    for deployment, pod in pods(objects).items():
        assert ("ServiceAccount", pod["serviceAccountName"]) in there, deployment
        for volume in pod.get("volumes", ()):
            named = [
                ("Secret", volume.get("secret", {}).get("secretName")),
                ("ConfigMap", volume.get("configMap", {}).get("name")),
                ("PersistentVolumeClaim", volume.get("persistentVolumeClaim", {}).get("claimName")),
            ]
            assert {each for each in named if each[1]} <= there, deployment
        for container in pod["containers"]:
            for source in container.get("envFrom", ()):
                assert ("ConfigMap", source["configMapRef"]["name"]) in there, deployment
    namespaces = {each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"}
    assert namespaces == {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}


@pytest.mark.parametrize("name", ALL)
def test_every_selector_chooses_pods_that_are_there(overlays: dict[str, Objects], name: str) -> None:
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in overlays[name]
        if each["kind"] == "Deployment"
    }

    def chosen(selector: dict[str, Any]) -> set[str]:
        found = {
            pod
            for pod, own in labels.items()
            if selector.get("matchLabels", {}).items() <= own.items()
            and all(own.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ()))
        }
        assert found, selector
        return found

    workers = {"cardtoken-interactive", "cardtoken-bulk"}
    exporter = {"cardtoken-metrics"} & set(labels)
    expected = {
        ("NetworkPolicy", "cardtoken-default-deny"): set(labels),
        ("NetworkPolicy", "cardtoken-redis-and-names"): {*workers, *exporter, "cardtoken-flower"},
        ("NetworkPolicy", "cardtoken-providers"): workers,
        ("NetworkPolicy", "cardtoken-metrics"): workers,
        ("NetworkPolicy", "cardtoken-flower"): {"cardtoken-flower"},
        ("PodDisruptionBudget", "cardtoken-interactive"): {"cardtoken-interactive"},
        ("PodDisruptionBudget", "cardtoken-bulk"): {"cardtoken-bulk"},
        ("Deployment", "cardtoken-interactive"): {"cardtoken-interactive"},
        ("Deployment", "cardtoken-bulk"): {"cardtoken-bulk"},
        ("Service", "cardtoken-flower"): {"cardtoken-flower"},
    }
    for each in overlays[name]:
        key = (each["kind"], each["metadata"]["name"])
        spec = each.get("spec", {})
        if key == ("NetworkPolicy", "cardtoken-lengths"):
            continue  # of a Redis that may be elsewhere
        if each["kind"] == "Service":
            found = chosen({"matchLabels": spec["selector"]})
        elif each["kind"] in {"NetworkPolicy", "PodDisruptionBudget", "Deployment", "PodMonitor"}:
            found = chosen(spec["podSelector"] if each["kind"] == "NetworkPolicy" else spec["selector"])
        else:
            continue
        assert expected.pop(key, found) == found, key
    assert expected == {}


@pytest.mark.parametrize("name", ALL)
def test_no_secret_is_outside_of_a_secret(overlays: dict[str, Objects], name: str) -> None:
    for each in overlays[name]:
        assert each["kind"] == "Secret" or "planted" not in str(each), each["metadata"]["name"]
