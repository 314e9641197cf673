"""deploy/systemd: systemd takes the units; what they start looks cards up, stops in time, is not restarted in vain."""

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
import requests

from cardtoken.contract import Lane
from cardtoken.keys import queue_name
from config import celeryconfig
from config.settings import Settings, _known
from sandbox.environment import CLIENT, CLIENT_SECRET, MERCHANT, PRIVATE_KEY, ROOT
from sandbox.processes import wait_for_line
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tasks.providers import PROVIDERS
from tasks.worker import _STOP_SECONDS
from tests.units import FLOWER, FOLDER, WORKER, Host, directives, variables_of

#: Seconds of the process itself: a signal that comes late, a process that starts to end.
_OWN_SECONDS = 5
KNOWN = _known({name: provider.account for name, provider in PROVIDERS.items()})


def test_every_declared_queue_is_consumed_by_the_instance_of_its_lane() -> None:
    for lane in Lane:
        queues = variables_of(FOLDER / f"{lane}.env")["LOOKUP_QUEUES"]
        assert queues.split(",") == [queue_name(provider, lane) for provider in PROVIDERS]
    (started,) = directives("cardtoken.target")["Wants"]
    assert started.split() == [*(WORKER.replace("@", f"@{lane}") for lane in Lane), FLOWER]
    assert "-n %i@%H -Q ${LOOKUP_QUEUES}" in directives(WORKER)["ExecStart"][0]


def test_every_variable_is_a_setting_and_no_secret() -> None:
    secrets = {name for name in KNOWN if f"{name}_FILE" in KNOWN}
    ports: list[str] = []
    for path in FOLDER.glob("*.env"):
        found = variables_of(path)
        assert set(found) - {"LOOKUP_QUEUES"} <= KNOWN, path.name
        assert secrets.isdisjoint(found), path.name
        ports += [value for name, value in found.items() if name.endswith("_PORT")]
    assert len(ports) == len(set(ports)) == 2 * len(Lane)
    for unit in (WORKER, FLOWER):
        given = {name for line in directives(unit)["Environment"] for name in re.findall(r"(\w+)=", line)}
        own = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "FLOWER_DB", "FLOWER_BASIC_AUTH_FILE"}
        assert given - own <= KNOWN, unit


def test_each_unit_has_the_credentials_that_its_variables_name_and_no_other() -> None:
    for unit in (WORKER, FLOWER):
        found = directives(unit)
        loaded = [each.partition(":")[0] for each in found["LoadCredential"]]
        assert loaded == re.findall(r"=%d/(\S+)", " ".join(found["Environment"]))
        assert found["LoadCredential"] == [f"{name}:/etc/cardtoken/secrets/{name}" for name in loaded]


def test_a_unit_that_stops_is_given_the_time_that_it_may_take() -> None:
    found = directives(WORKER)
    default = Settings.model_fields["http_total_timeout"].default
    assert int(found["TimeoutStopSec"][0]) >= default + _STOP_SECONDS + _OWN_SECONDS
    for unit in (WORKER, FLOWER):
        found = directives(unit)
        assert (found["KillMode"], found["Restart"]) == (["mixed"], ["on-failure"])
        assert found["RestartPreventExitStatus"] == ["78"]


def test_a_worker_may_have_the_threads_and_descriptors_that_it_needs() -> None:
    found = directives(WORKER)
    calls = Settings.model_fields["provider_concurrency"].default * len(PROVIDERS)
    assert int(found["LimitNOFILE"][0]) >= 64 + calls
    assert int(found["TasksMax"][0]) >= celeryconfig.worker_concurrency + calls + 64
    assert found["MemoryMax"] == ["1G"]


@pytest.mark.tools
def test_systemd_takes_the_units_and_finds_them_confined(tmp_path: Path) -> None:
    home = tmp_path / "opt"
    (home / "venv/bin").mkdir(parents=True)
    (home / "venv/bin/celery").symlink_to(shutil.which("true") or "")
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace("/opt/cardtoken", str(home))
        (tmp_path / path.name).write_text(text, encoding="utf-8")

    def analyzed(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemd-analyze", *args], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    units = ["./cardtoken.target", *(f"./{WORKER.replace('@', f'@{lane}')}" for lane in Lane), f"./{FLOWER}"]
    verified = analyzed("verify", "--man=no", *units)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    for unit in (WORKER, FLOWER):
        judged = analyzed("security", "--offline=true", "--no-pager", "--threshold=15", f"./{unit}")
        assert judged.returncode == 0, judged.stdout + judged.stderr
    wrong = (tmp_path / FLOWER).read_text(encoding="utf-8").replace("TimeoutStopSec", "TimeoutStopSecond")
    (tmp_path / FLOWER).write_text(wrong, encoding="utf-8")
    verified = analyzed("verify", "--man=no", f"./{FLOWER}")
    assert "TimeoutStopSecond" in verified.stderr


def ready(url: str) -> bool | None:
    return requests.get(url, timeout=5).ok or None


@pytest.mark.tools
def test_what_the_units_start_looks_cards_up_and_ends_in_order(
    simulator: Simulator, redis_server: RedisServer, tmp_path: Path
) -> None:
    service = Service(redis_server, simulator)
    service.redis.flushall()
    accounts = {
        "opay": {"default": {"merchant_id": MERCHANT, "private_key": PRIVATE_KEY}},
        "afterpay": {"default": {"client_id": CLIENT, "client_secret": CLIENT_SECRET}},
    }
    secrets = {
        "worker_redis_url": service.server.url,
        "flower_redis_url": service.server.url,
        "flower_login": "admin:of-a-test",
        "provider_accounts.json": json.dumps(accounts),
    }
    host = Host(tmp_path, secrets)
    urls = {f"{name.upper()}_BASE_URL": service.simulator.url for name in PROVIDERS}
    port = free_port()
    host.append("cardtoken.env", FLOWER_PORT=port, **urls)
    ports = {lane: free_port() for lane in Lane}
    for lane in Lane:
        host.append(f"{lane}.env", HEALTH_PORT=ports[lane], METRICS_PORT=0)
    children = {str(lane): host.start(WORKER, lane) for lane in Lane}
    children["flower"] = flower = host.start(FLOWER)
    try:
        for lane in Lane:
            wait_for_line(children[lane], r" ready\.", 60)
            url = f"http://127.0.0.1:{ports[lane]}/readyz"
            until(partial(ready, url), 20)
            (result,) = service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}], lane), 1)
            assert result["status"] == "found"
        wait_for_line(flower, rf"Visit me at http://127\.0\.0\.1:{port}", 30)
    finally:
        limits = {unit: int(directives(unit)["TimeoutStopSec"][0]) for unit in (WORKER, FLOWER)}
        statuses = {name: child.stop(limits[FLOWER if child is flower else WORKER]) for name, child in children.items()}
    assert statuses == dict.fromkeys(children, 0)


@pytest.mark.tools
def test_a_wrong_configuration_ends_with_the_status_that_is_not_restarted(tmp_path: Path) -> None:
    host = Host(tmp_path, {"worker_redis_url": "redis://127.0.0.1:1/0", "provider_accounts.json": "{"})
    worker = host.start(WORKER, "bulk")
    wait_for_line(worker, "PROVIDER_ACCOUNTS_FILE", 60)
    until(lambda: worker.poll() is not None or None, 20)
    assert [str(worker.poll())] == directives(WORKER)["RestartPreventExitStatus"]


def test_the_programs_are_where_the_page_puts_them() -> None:
    page = (ROOT / "docs/systemd.md").read_text(encoding="utf-8")
    for unit in (WORKER, FLOWER):
        (home,) = directives(unit)["WorkingDirectory"]
        assert directives(unit)["ExecStart"][0].startswith(f"{home}/venv/bin/celery ")
        assert f" {home} && cd {home}\npython3 -m venv venv\n" in page
