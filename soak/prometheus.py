"""A Prometheus with the rules of deploy/prometheus, for which time passes faster."""

import json
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import requests
from ruamel.yaml import YAML

from sandbox.environment import ROOT
from sandbox.processes import start
from sandbox.redis_server import free_port
from soak.stock import UnavailableError

RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RANGE: Final = re.compile(r"(?:(?<=\[)|(?<=offset ))(\d+)([smhd])\b")
#: Windows longer than this many seconds shrink ten times as much again: a day, divided by 150, is ten minutes.
_LONG: Final = 3600

Labels = dict[str, str]


def scaled(factor: float) -> dict[str, Any]:
    """Return the rules with every duration in them divided; no expression is changed otherwise."""
    rules: Any = YAML(typ="safe").load(RULES)

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[1]) * _SECONDS[found[2]]
        return f"{round(1000 * seconds / (factor * (10 if seconds > _LONG else 1)))}ms"

    def duration(text: str) -> str:
        return re.sub(r"(\d+)([smhd])", shorter, text)

    for group in rules["groups"]:
        if "interval" in group:
            group["interval"] = duration(group["interval"])
        for rule in group["rules"]:
            rule["expr"] = _RANGE.sub(shorter, rule["expr"])
            if "for" in rule:
                rule["for"] = duration(rule["for"])
    return dict(rules)


def alerts() -> list[str]:
    """Return the names of all alerts."""
    rules: Any = YAML(typ="safe").load(RULES)
    return [rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


class Prometheus:
    """It asks the workers at these ports. ``factor`` says how much faster time passes for its rules.

    Raises UnavailableError where Prometheus is not installed.
    """

    def __init__(self, stack: ExitStack, folder: Path, ports: Sequence[int], factor: float) -> None:
        if shutil.which("prometheus") is None:
            raise UnavailableError("needs Prometheus, as `make tools` installs it")
        folder.mkdir()
        (folder / "rules.yml").write_text(json.dumps(scaled(factor)))
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "250ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": "cardtoken", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self._url = f"http://127.0.0.1:{(port := free_port())}/api/v1"
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self._child = start(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], name="prometheus")
        stack.callback(self._child.stop)

    def ask(self, query: str) -> list[Any]:
        """Return the series of an instant query; none while it starts."""
        return list((self._get("query", query=query) or {}).get("result", ()))

    def firing(self) -> list[Labels] | None:
        """Return the labels of what fires now; None where it does not say."""
        found = self._get("alerts")
        if found is None:
            return None
        return [alert["labels"] for alert in found["alerts"] if alert["state"] == "firing"]

    def _get(self, what: str, **parameters: str) -> dict[str, Any] | None:
        try:
            answer = requests.get(f"{self._url}/{what}", params=parameters, timeout=10).json()
        except (requests.ConnectionError, requests.Timeout, requests.JSONDecodeError):
            return None
        assert answer["status"] == "success", answer
        return dict(answer["data"])
