"""Every alert, on a real service with a real Prometheus for which time passes faster: `python -m soak alerts`."""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from soak import runbook
from soak.alerts import alerts
from soak.prometheus import RULES, scaled
from soak.prometheus import alerts as every_alert
from soak.record import Plan


@pytest.mark.alerts
@pytest.mark.timeout(600)
def test_every_alert_fires_by_a_real_fault_and_ends_by_the_command_of_its_runbook() -> None:
    record = alerts(Plan(scale=0.2, seed=1, progress=lambda *_: None))
    assert record.passed, "\n".join(f"{name}: {figure}" for name, figure in record.figures.items())


def test_the_runbook_has_commands_for_every_alert() -> None:
    found = runbook.commands()
    assert sorted(found) == sorted(every_alert())
    assert all(found.values())


def test_time_passes_faster_for_every_window_and_nothing_else_is_changed() -> None:
    document: Any = YAML(typ="safe").load(RULES)
    duration = re.compile(r"(\[|offset |for |every )\d+(ms|[smhd])\b")

    def shown(rules: dict[str, Any]) -> list[str]:
        return [
            f"{rule['expr']} for {rule.get('for')} every {group.get('interval')}"
            for group in rules["groups"]
            for rule in group["rules"]
        ]

    before, after = shown(document), shown(scaled(150))
    assert before != after
    assert [duration.sub(r"\1", each) for each in before] == [duration.sub(r"\1", each) for each in after]
    assert not [each for each in after if re.search(r"(\[|offset |for |every )\d+[smhd]\b", each)]
    assert any("[2000ms]" in each for each in after)  # of five minutes
