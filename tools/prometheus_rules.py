"""``make rules``: the alerts of deploy/prometheus as an object of the Prometheus operator, for deploy/kubernetes."""

import re
from pathlib import Path
from typing import Final

_DEPLOY: Final = Path(__file__).parent.parent / "deploy"
TARGET: Final = _DEPLOY / "kubernetes/components/podmonitor/prometheusrules.yaml"


def prometheus_rules() -> str:
    """Return a PrometheusRule for each file of rules that prometheus.yml names, with that file as its specification."""
    return "# Written by `make rules` from deploy/prometheus.\n" + "---\n".join(map(_object, _rule_files()))


def _rule_files() -> list[Path]:
    folder = _DEPLOY / "prometheus"
    found = re.search(r"^rule_files: \[(.*)\]$", (folder / "prometheus.yml").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError("deploy/prometheus/prometheus.yml has no line `rule_files: [NAME, …]`")
    return [folder / name.strip() for name in found[1].split(",")]


def _object(path: Path) -> str:
    head = (
        f"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: cardtoken-{path.stem}\nspec:\n"
    )
    lines = path.read_text(encoding="utf-8").splitlines()
    return head + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    TARGET.write_text(prometheus_rules(), encoding="utf-8")
