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
_NAME = re.compile(r"(?<!:)\b(?:cardtoken|process)_[a-z_]+\b")


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

    names = {sample.name for family in FleetCollector(nothing).collect() for sample in family.samples}
    names |= {family.name for family in FleetCollector(nothing).collect()}
    for family in metrics.REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def expressions() -> list[str]:
    dashboard: Any = json.loads((DEPLOY / "grafana" / "dashboards" / "cardtoken.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return found + [rule["expr"] for rule in every_rule()]


def every_rule() -> list[dict[str, Any]]:
    groups: Any = YAML(typ="safe").load(DEPLOY / "prometheus" / "alerts.yml")
    return [rule for group in groups["groups"] for rule in group["rules"]]


def rules() -> list[dict[str, Any]]:
    """Those that alert."""
    return [rule for rule in every_rule() if "alert" in rule]


def cases() -> dict[str, list[tuple[str, bool]]]:
    """Of each alert, in which of promtool's tests it is looked at, and whether it fires there."""
    found: dict[str, list[tuple[str, bool]]] = {}
    for file in sorted((DEPLOY / "prometheus").glob("*.test.yml")):
        document: Any = YAML(typ="safe").load(file)
        for test in document["tests"]:
            for case in test["alert_rule_test"]:
                found.setdefault(case["alertname"], []).append((test["name"], bool(case["exp_alerts"])))
    return found


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
    ad_hoc = {"cardtoken_attempts", "cardtoken_held", "cardtoken_config_last_reload_success_timestamp_seconds"}
    assert unseen == ad_hoc, "for ad-hoc questions"


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text()
    headings = set(re.findall(r"^#### (\w+)$", runbook, re.MULTILINE))
    assert headings == {rule["alert"] for rule in rules()}
    for rule in rules():
        name, severity = rule["alert"], rule["labels"]["severity"]
        assert severity in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        row = rf"^\| \[`{name}`\]\(#{name.lower()}\) \({severity}\) \|(?: [^|]+ \|){{4}}$"
        assert re.search(row, runbook, re.MULTILINE), (
            f"{name}: meaning, first look, cure, and how one sees that it is over"
        )
        section = runbook.partition(f"\n#### {name}\n")[2].partition("\n#")[0]
        assert re.search(r"^```sh\n.+?^```$", section, re.MULTILINE | re.DOTALL), f"{name}: a command"


def test_promtool_sees_every_alert_silent_then_firing_then_over() -> None:
    """Whether that is as it should be, promtool says; see test_prometheus.py."""
    found = cases()
    for rule in rules():
        by_test: dict[str, list[bool]] = {}
        for test, fires in found[rule["alert"]]:
            by_test.setdefault(test, []).append(fires)
        assert any(looks[0] is False and True in looks and looks[-1] is False for looks in by_test.values()), rule[
            "alert"
        ]
