"""The deployment files run what the code declares."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from cardtoken.contract import Lane
from cardtoken.keys import queue_name
from cardtoken.secret import Secret
from config.environment import variable_name
from config.queues import queues
from config.settings import Pacing, Settings
from sandbox.environment import ROOT
from tasks.providers import PROVIDERS

_CONSUMED = re.compile(r"-Q \$\{(\w+):-([a-z.,_]+)\}")


def consumed(name: str) -> dict[str, list[str]]:
    return {variable: names.split(",") for variable, names in _CONSUMED.findall((ROOT / name).read_text())}


def test_every_declared_queue_is_consumed_by_a_process_of_each_deployment_file() -> None:
    declared = sorted(queue.name for queue in queues(PROVIDERS))
    assert len(declared) == len(PROVIDERS) * len(Lane)
    for name in ("Procfile", "docker-compose.yml"):
        assert sorted(queue for found in consumed(name).values() for queue in found) == declared, name


def test_no_deployed_worker_serves_both_lanes() -> None:
    for name in ("Procfile", "docker-compose.yml"):
        assert consumed(name) == {
            "INTERACTIVE_QUEUES": [queue_name(provider, Lane.INTERACTIVE) for provider in PROVIDERS],
            "BULK_QUEUES": [queue_name(provider, Lane.BULK) for provider in PROVIDERS],
        }, name


def test_flower_is_bound_to_loopback_or_wants_a_login() -> None:
    assert "--address" not in (ROOT / "Procfile").read_text(), "flowerconfig.py binds it to loopback"
    compose = (ROOT / "docker-compose.yml").read_text()
    assert "FLOWER_BASIC_AUTH_FILE: /run/secrets/flower_login" in compose
    assert '"127.0.0.1:${FLOWER_PORT' in compose


def test_the_locks_name_no_registry_and_hash_everything() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text()
        assert "://" not in text, lock.name
        assert "--index" not in text, lock.name
        entries = re.split(r"\n(?=\S)", text.strip())
        unpinned = [entry for entry in entries if not re.match(r"\S+==\S+ (; .*)?\\\n    --hash=sha256:", entry)]
        assert unpinned == [], lock.name


def test_a_stopping_worker_is_given_the_time_that_it_may_take() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    grace = re.search(r"stop_grace_period: (\d+)s", compose)
    assert grace
    assert int(grace[1]) >= Settings.model_fields["http_total_timeout"].default + 10


def test_programs_that_a_container_runs_are_copied_into_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    worker = dockerfile.split("AS worker\n")[1]
    for package in ("config", "tasks"):
        assert f"COPY {package} {package}" in worker
    assert "COPY simulator" not in worker
    assert dockerfile.count("\nUSER 10001:10001") == dockerfile.count("\nCMD ") == dockerfile.count("\nENTRYPOINT ")
    assert "/var/lib/flower" in dockerfile
    targets = set(re.findall(r"target: (\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert targets == {"worker", "simulator"} <= set(re.findall(r" AS ([\w-]+)", dockerfile))


def test_what_is_copied_into_an_image_is_there_and_reaches_the_builder() -> None:
    """A builder that makes every stage fails where one asks for what .dockerignore shuts out."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert names == let_in
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_an_image_is_made_of_named_releases_alone() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "syntax=" not in dockerfile
    assert re.search(r"^FROM python:3\.14\.\d+-slim-\w+ AS base$", dockerfile, re.MULTILINE)
    installs = re.findall(r"pip (?:--python \S+ )?install (.*?)(?:\n[^ ]|&& \w)", dockerfile, re.DOTALL)
    assert len(installs) == 4
    assert [each for each in installs if "--require-hashes" not in each and "--no-index" not in each] == []


def compose() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(ROOT / "docker-compose.yml"))


def test_each_secret_is_a_file_that_one_command_makes(tmp_path: Path) -> None:
    services = compose()["services"]
    assert [name for name, each in services.items() if "env_file" in each] == []
    used = {secret for each in services.values() for secret in each.get("secrets", ())}
    declared = compose()["secrets"]
    assert used == set(declared)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "deploy/secrets.sh")],
        env={**os.environ, "SECRETS": str(tmp_path / "secrets")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {name: f"./deploy/secrets/{name}" for name in used} == {
        name: each["file"] for name, each in declared.items()
    }
    assert used <= set(made)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    values = [text for text in made.values() if text.strip() not in {"", "{}"}]
    assert len(values) == len(set(values)) > 10
    given = services["redis"]["environment"]
    users = [name.removesuffix("_PASSWORD_FILE").lower() for name in given if name.endswith("_FILE")]
    assert len(users) == 5
    for user in users:
        assert made[f"{user}_redis_url"] == f"redis://{user}:{made[f'{user}_password'].strip()}@redis:6379/0\n"


def test_what_the_secrets_script_finds_it_leaves(tmp_path: Path) -> None:
    (tmp_path / "worker_password").write_text("my-own\n")
    (tmp_path / "flower_redis_url").write_text("rediss://flower:secret@elsewhere:6379/0\n")
    command = ["/bin/sh", str(ROOT / "deploy/secrets.sh")]
    environment = {**os.environ, "SECRETS": str(tmp_path)}
    subprocess.run(command, env=environment, capture_output=True, timeout=30, check=True)
    assert (tmp_path / "worker_password").read_text() == "my-own\n"
    assert (tmp_path / "worker_redis_url").read_text() == "redis://worker:my-own@redis:6379/0\n"
    assert "elsewhere" in (tmp_path / "flower_redis_url").read_text()
    (tmp_path / "worker_password").write_text("p@ss\n")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert "worker_password" in done.stderr


def test_a_container_of_a_worker_takes_every_setting_but_secrets() -> None:
    models = {"": (Settings,), **{name: (provider.account, Pacing) for name, provider in PROVIDERS.items()}}
    fields = {
        variable_name(prefix, field): (info, model)
        for prefix, found in models.items()
        for model in found
        for field, info in model.model_fields.items()
    }
    own = {"METRICS_HOST", "METRICS_PORT", "HEALTH_HOST", "HEALTH_PORT"}
    #: How Redis is reached is this file's to say; the last is for tests.
    left = {name for name in fields if name.startswith("REDIS_")} | {"FAULT_POINT"}
    secrets = {name for name, (info, _) in fields.items() if Secret in (info.annotation, *get_args(info.annotation))}
    in_file = {name for name, (info, _) in fields.items() if info.is_required()}
    for service in ("interactive", "bulk"):
        given = compose()["services"][service]["environment"]
        passed = {name for name, value in given.items() if value is None}
        assert passed - {"SENTRY_DSN_FILE"} == set(fields) - own - left - secrets - in_file, service


def run_held(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["timeout", "--preserve-status", "-s", "TERM", "1", ROOT / "deploy/hold-misconfigured", "sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_status_is_passed_on(status: int) -> None:
    assert run_held(f"exit {status}").returncode == status


def test_wrong_configuration_is_held_until_the_container_is_stopped() -> None:
    done = run_held("echo what is wrong >&2; exit 78")
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.startswith("what is wrong\nwrong configuration")


def test_grafana_without_a_password_does_not_start() -> None:
    [_, _, script] = compose()["services"]["grafana"]["entrypoint"]
    assert script.startswith("test -s /run/secrets/grafana_password ||")
    done = subprocess.run(
        ["timeout", "1", "sh", "-c", script.replace("/run.sh", "echo started")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "put a password into" in done.stderr
    assert "started" not in done.stdout
