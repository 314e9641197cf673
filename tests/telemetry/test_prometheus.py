"""A real Prometheus: it takes the rules, asks a worker, and every question of the dashboard has an answer."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.processes import start
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.telemetry.test_deploy import DEPLOY, expressions
from tests.telemetry.test_metrics import measured

pytestmark = pytest.mark.tools


def promtool(*command: str) -> None:
    done = subprocess.run(
        ["promtool", *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_the_rules_are_right() -> None:
    promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("file", sorted(each.name for each in (DEPLOY / "prometheus").glob("*.test.yml")))
def test_the_rules_hold_what_they_say(file: str) -> None:
    promtool("test", "rules", file)


def test_prometheus_scrapes_a_worker_and_serves_the_dashboard(simulator: Simulator, tmp_path: Path) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        with measured(service, OPAY_RATE_LIMIT="100/s") as (_, port):
            names = ("visa", "timeout-1", "code-20000")
            service.results(service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}~p"} for name in names]), 3)
            service.redis.xgroup_create("token-records:default", "shop", id="0")
            service.redis.lpush("lookup.opay.bulk", b"no message")
            config: Any = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")],
                "scrape_configs": [{"job_name": "cardtoken", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
            }
            (tmp_path / "prometheus.yml").write_text(json.dumps(config))
            mine = free_port()
            prometheus = start(
                [
                    "prometheus",
                    f"--config.file={tmp_path / 'prometheus.yml'}",
                    f"--storage.tsdb.path={tmp_path / 'data'}",
                    f"--web.listen-address=127.0.0.1:{mine}",
                ],
                name="prometheus",
            )
            try:

                def ask(query: str) -> list[Any] | None:
                    url = f"http://127.0.0.1:{mine}/api/v1/query"
                    try:
                        answer = requests.get(url, params={"query": query}, timeout=10).json()
                    except requests.ConnectionError:
                        return None
                    assert answer["status"] == "success", (query, answer)
                    result: list[Any] = answer["data"]["result"]
                    return result

                until(lambda: True if ask("count_over_time(up{job='cardtoken'}[1m]) > 3") else None, 40, 0.3)
                # What is recorded needs lookups that Prometheus has seen being made.
                service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa~seen"}]), 1)
                until(lambda: ask("provider:cardtoken_slow:ratio_rate1d") or None, 40, 0.3)
                panels = [each for each in expressions() if "$__rate_interval" in each or "max" in each]
                assert len(panels) > 20
                alerts = {each for each in expressions() if ">" in each or "==" in each}
                for query in expressions():
                    found = ask(query.replace("$__rate_interval", "1m"))
                    assert found is not None
                    if query not in alerts and "rate30d" not in query:  # recorded every five minutes
                        assert found, query
                url = f"http://127.0.0.1:{mine}/api/v1/rules"
                groups = requests.get(url, timeout=10).json()["data"]["groups"]
                assert [rule["health"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
            finally:
                prometheus.stop()
