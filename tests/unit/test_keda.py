"""What scales workers on Kubernetes: every field is one that KEDA has, every question has an answer."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from cardtoken.cli.metrics import lookups_that_wait
from cardtoken.contract import Lane
from cardtoken.keys import delayed
from cardtoken.status import Queue, Server, ServiceStatus
from config.queues import queues
from sandbox.environment import ROOT
from tasks.providers import PROVIDERS

KEDA = ROOT / "deploy" / "kubernetes" / "components" / "keda"


def strict(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other fields: KEDA ignores what it does not know."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def some(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


TEXT = {"type": "string", "minLength": 1}
SECONDS = {"type": "integer", "minimum": 0, "maximum": 3600}
COUNT = {"type": "integer", "minimum": 0}
#: A number in quotes: the metadata of a trigger are texts.
NUMBER = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
META = strict(("name",), name=TEXT, labels={"const": {"app.kubernetes.io/part-of": "cardtoken"}})
POLICY = strict(
    ("type", "value", "periodSeconds"),
    type={"enum": ["Pods", "Percent"]},
    value={"type": "integer", "minimum": 1},
    periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
)
RULES = strict(
    policies=some(POLICY), selectPolicy={"enum": ["Max", "Min", "Disabled"]}, stabilizationWindowSeconds=SECONDS
)
METADATA = {
    "metrics-api": strict(
        ("url", "valueLocation", "targetValue"),
        url=TEXT,
        valueLocation=TEXT,
        targetValue=NUMBER,
        activationTargetValue=NUMBER,
    ),
    "redis": strict(("listName", "listLength"), listName=TEXT, listLength=NUMBER, activationListLength=NUMBER),
}
SPEC = strict(
    ("scaleTargetRef", "triggers"),
    scaleTargetRef=strict(("name",), name=TEXT, kind=TEXT, apiVersion=TEXT, envSourceContainerName=TEXT),
    pollingInterval=SECONDS,
    cooldownPeriod=SECONDS,
    minReplicaCount=COUNT,
    maxReplicaCount=COUNT,
    fallback=strict(("failureThreshold", "replicas"), failureThreshold=COUNT, replicas=COUNT),
    advanced=strict(horizontalPodAutoscalerConfig=strict(behavior=strict(scaleUp=RULES, scaleDown=RULES))),
    triggers=some({
        "oneOf": [
            strict(
                ("type", "metadata"),
                type={"const": kind},
                name=TEXT,
                metadata=metadata,
                authenticationRef=strict(("name",), name=TEXT),
            )
            for kind, metadata in METADATA.items()
        ]
    }),
)  # fmt: skip
REFERENCE = strict(("parameter", "name", "key"), parameter=TEXT, name=TEXT, key=TEXT)
SCHEMAS = {
    "ScaledObject": SPEC,
    "TriggerAuthentication": strict(("secretTargetRef",), secretTargetRef=some(REFERENCE)),
}


def of_keda(document: Any) -> dict[str, Any]:
    kind, version = {"const": document["kind"]}, {"const": "keda.sh/v1alpha1"}
    needed = ("apiVersion", "kind", "metadata", "spec")
    return strict(needed, apiVersion=version, kind=kind, metadata=META, spec=SCHEMAS[document["kind"]])


def documents() -> list[Any]:
    loader = YAML(typ="safe")
    return [each for path in sorted(KEDA.glob("*.yaml")) for each in loader.load_all(path) if "kind" in each]


def of_kind(kind: str) -> list[Any]:
    return [each for each in documents() if each["kind"] == kind]


def test_every_field_is_kedas() -> None:
    found = of_kind("ScaledObject") + of_kind("TriggerAuthentication")
    assert len(found) == 3
    for document in found:
        Draft202012Validator(of_keda(document)).validate(document)
    document["spec"]["secretTargetRefs"] = []
    assert not Draft202012Validator(of_keda(document)).is_valid(document), "a misspelt field is seen"


@pytest.mark.parametrize("lane", Lane)
def test_each_lane_is_scaled_by_all_of_its_queues_and_as_the_exporter_says(lane: Lane) -> None:
    (scaled,) = [each["spec"] for each in of_kind("ScaledObject") if each["metadata"]["name"] == f"cardtoken-{lane}"]
    assert scaled["scaleTargetRef"]["name"] == f"cardtoken-{lane}"
    assert scaled["minReplicaCount"] < scaled["fallback"]["replicas"] < scaled["maxReplicaCount"]
    lists = {each["metadata"]["listName"]: each for each in scaled["triggers"] if each["type"] == "redis"}
    names = {queue.name for queue in queues(PROVIDERS) if queue.name.endswith(f".{lane}")}
    # No worker need be there for what is delayed where one always is.
    assert lists.keys() == names | {delayed(name) for name in names if not scaled["minReplicaCount"]}
    (authentication,) = of_kind("TriggerAuthentication")
    assert {each["authenticationRef"]["name"] for each in lists.values()} == {authentication["metadata"]["name"]}
    asked = {each["metadata"]["valueLocation"]: each for each in scaled["triggers"] if each["type"] == "metrics-api"}
    (target,) = {each["metadata"]["listLength"] for each in lists.values()}
    assert asked[f"{lane}.lookups"]["metadata"]["targetValue"] == target, "messages never ask for more than lookups do"
    server = Server("", 0, 0, "", append_only=True, clients=0)
    waiting = tuple(Queue(queue.name, 1, 0, None, 0, lookups=7) for queue in queues(PROVIDERS))
    found = ServiceStatus("", server, (), waiting, 0, 3, 0, 0, (), ())
    values: dict[str, Any] = {}
    for place in asked:
        value: Any = json.loads(json.dumps(lookups_that_wait(found)))
        for name in place.split("."):
            value = value[name]
        values[place] = value
    assert values.pop("overdue", 3) == 3
    assert values == {f"{lane}.lookups": 7 * len(PROVIDERS)}


def test_the_exporter_is_where_the_triggers_ask() -> None:
    (service,) = of_kind("Service")
    (deployment,) = of_kind("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    port = service["spec"]["ports"][0]["port"]
    urls = {each["metadata"].get("url") for scaled in of_kind("ScaledObject") for each in scaled["spec"]["triggers"]}
    assert urls - {None} == {f"http://{service['metadata']['name']}.cardtoken.svc:{port}/waiting"}
    assert {each["name"]: each["value"] for each in container["env"]}["METRICS_PORT"] == str(port)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.tools
def test_it_can_be_added_to_workers(tmp_path: Path) -> None:
    workers = "\n---\n".join(
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: cardtoken-{lane}}}\nspec: {{replicas: 2}}"
        for lane in Lane
    )
    (tmp_path / "workers.yaml").write_text(workers)
    (tmp_path / "keda").symlink_to(KEDA)
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [workers.yaml]\ncomponents: [keda]\nnamespace: cardtoken\n"
    )
    kubectl = shutil.which("kubectl", path=f"{ROOT / '.venv-kubernetes/bin'}:{os.environ['PATH']}")
    if kubectl is None:
        pytest.skip("there is no kubectl")
    command = [kubectl, "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    built = {(each["kind"], each["metadata"]["name"]): each for each in YAML(typ="safe").load_all(done.stdout)}
    for lane in Lane:
        assert "replicas" not in built["Deployment", f"cardtoken-{lane}"]["spec"], "KEDA's number is not set back"
        assert ("ScaledObject", f"cardtoken-{lane}") in built
    (mode,) = [
        each["secret"]["defaultMode"]
        for each in built["Deployment", "cardtoken-metrics"]["spec"]["template"]["spec"]["volumes"]
    ]
    assert mode == 0o440
