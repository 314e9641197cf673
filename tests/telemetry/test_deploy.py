"""The dashboard and the alert rules ask for what workers tell; every alert is explained."""

import json
import re
from typing import Any

from ruamel.yaml import YAML

from cardtoken.fleet_metrics import FleetCollector
from cardtoken.status import ServiceStatus
from sandbox.environment import ROOT
from tasks.telemetry import metrics

DEPLOY = ROOT / "deploy"
_NAME = re.compile(r"\b(?:cardtoken|process)_[a-z_]+\b")


def told() -> set[str]:
    """Names of all series that a worker has."""

    def nothing() -> ServiceStatus:
        from cardtoken.status import Group, Queue, ResultQueue, Server

        return ServiceStatus(
            at="",
            server=Server("", 0, 0, "", append_only=True, clients=0),
            workers=(),
            queues=(Queue("q", 0, 0, None, 0, lookups=0),),
            claimed=0,
            overdue=0,
            dead_letters=0,
            quarantine=0,
            result_queues=(ResultQueue("default", 0, (Group("g", 0, 0, 0),)),),
            circuits=(),
        )

    names = {sample.name for family in FleetCollector(nothing, {}).collect() for sample in family.samples}
    names |= {family.name for family in FleetCollector(nothing, {}).collect()}
    for family in metrics.REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def expressions() -> list[str]:
    dashboard: Any = json.loads((DEPLOY / "grafana" / "dashboards" / "cardtoken.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return found + [rule["expr"] for rule in rules()]


def rules() -> list[dict[str, Any]]:
    groups: Any = YAML(typ="safe").load(DEPLOY / "prometheus" / "alerts.yml")
    return [rule for group in groups["groups"] for rule in group["rules"]]


def test_the_dashboard_and_the_alerts_ask_for_what_there_is() -> None:
    known = told()
    asked = {name for each in expressions() for name in _NAME.findall(each)}
    assert len(asked) > 20
    assert asked <= known, asked - known


def test_every_metric_of_ours_is_looked_at() -> None:
    asked = " ".join(expressions())
    unseen = {
        family.name
        for family in metrics.REGISTRY.collect()
        if family.name.startswith("cardtoken_") and family.name not in asked
    }
    assert unseen == {"cardtoken_attempts", "cardtoken_held"}, "for ad-hoc questions"


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text()
    for rule in rules():
        assert f"`{rule['alert']}`" in runbook, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
