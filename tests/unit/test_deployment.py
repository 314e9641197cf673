"""The deployment files run what the code declares."""

import re

from cardtoken.contract import Lane
from cardtoken.keys import queue_name
from config.queues import queues
from config.settings import Settings
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
    assert "${FLOWER_BASIC_AUTH:?" in compose
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
    for package in ("cardtoken", "config", "tasks"):
        assert f"COPY {package} {package}" in worker
    assert "COPY simulator" not in worker
    assert dockerfile.count("USER cardtoken") == dockerfile.count("\nCMD ")
    for lock in re.findall(r"COPY (requirements/\S+)", dockerfile):
        assert (ROOT / lock).is_file()
    assert "/var/lib/flower" in dockerfile
    targets = set(re.findall(r"target: (\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert targets == {"worker", "simulator"} <= set(re.findall(r" AS ([\w-]+)", dockerfile))
