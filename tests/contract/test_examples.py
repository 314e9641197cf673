"""The examples, run as their README says, against the service."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from sandbox.environment import ROOT, clean_environment
from sandbox.processes import start, wait_for_line
from sandbox.service import Service
from sandbox.waiting import until
from tests.redis_users import ServerWithUsers

NODE = ROOT / "examples" / "node"


def run(service: Service, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**clean_environment(), "REDIS_URL": service.server.url}
    where = NODE if command[0] == "node" else ROOT
    return subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, timeout=60, check=False)


def python(name: str) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / "python" / name)]


CHECKOUTS = [
    pytest.param(python("checkout.py"), id="python"),
    pytest.param(["node", "checkout.mjs"], id="node", marks=pytest.mark.tools),
    pytest.param(["node", "checkout-celery.mjs"], id="celery-node", marks=pytest.mark.tools),
]


@pytest.mark.parametrize("command", CHECKOUTS)
def test_a_shopper_is_told_what_is_behind_the_token(service: Service, command: Sequence[str]) -> None:
    done = run(service, *command, "OPAY_TOKEN_visa")
    assert done.returncode == 0, done.stderr
    assert re.match(r"visa •••• \d{4}", done.stdout)
    assert "no such card" in run(service, *command, "OPAY_TOKEN_not-found").stdout
    done = run(service, *command, "OPAY_TOKEN_code-20000")
    assert "failed: rejected" in done.stdout
    assert done.returncode == 1


def test_a_night_of_autopay_is_asked_for_and_collected(service: Service) -> None:
    done = run(service, *python("autopay.py"), "1200")
    assert done.returncode == 0, done.stderr
    assert "asked for 1200 cards in 3 messages" in done.stdout
    assert "1200 found" in done.stdout


CONSUMERS = [
    pytest.param(python("consumer.py"), id="python"),
    pytest.param(["node", "consumer.mjs"], id="node", marks=pytest.mark.tools),
]


@pytest.mark.parametrize("command", CONSUMERS)
def test_a_consumer_reads_each_result_once_also_when_it_is_killed(service: Service, command: Sequence[str]) -> None:
    service.redis.delete("token-records:default")
    group = f"examples-{os.getpid()}"
    env = {**clean_environment(), "REDIS_URL": service.server.url}
    where = NODE if command[0] == "node" else ROOT
    lines: list[str] = []

    def begin() -> Any:
        return start([*command, group, "consumer-1"], name="consumer", cwd=where, env=env, on_line=lines.append)

    def ask(name: str) -> None:
        service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "lookup_id": f"{name}-{n}"} for n in range(20)])

    def told(name: str) -> set[str]:
        return {line for line in lines if line.startswith(f"{name}-")}

    consumer = begin()
    try:
        ask("first")
        wait_for_line(consumer, r"first-\d+: found visa", 30)
        until(lambda: True if len(told("first")) == 20 else None)
        consumer.kill()
        ask("second")
        consumer = begin()
        until(lambda: True if len(told("second")) == 20 else None, 30)
        consumer.send_signal(signal.SIGINT)
        assert consumer.wait(20) == 0
    finally:
        consumer.stop()
    (found,) = service.redis.xinfo_groups("token-records:default")
    assert found["lag"] == 0
    assert found["pending"] <= 1, "the last one, where it is acknowledged with the next"


@pytest.mark.parametrize("command", CONSUMERS)
def test_a_consumer_waits_for_the_first_result_and_goes_on_when_redis_has_lost_its_data(
    command: Sequence[str], tmp_path: Path
) -> None:
    times = dict.fromkeys(("requested_at", "completed_at"), "2026-01-31T12:00:00Z")
    words = {"task_id": "t", "provider": "opay", "account": "default", "status": "not_found"}
    numbers = {"schema_version": 1, "attempts": 1}
    record: dict[str, Any] = {
        **words,
        **numbers,
        **times,
        "token": None,
        "error": None,
        "replay_of": None,
        "metadata": {},
    }
    lines: list[str] = []
    where = NODE if command[0] == "node" else ROOT
    with ServerWithUsers(tmp_path) as server:
        env = {**clean_environment(), "REDIS_URL": server.url_of("consumer")}
        consumer = start([*command, "shop", "shop-1"], name="consumer", cwd=where, env=env, on_line=lines.append)

        def publish(lookup_id: str) -> None:
            result = json.dumps({**record, "lookup_id": lookup_id})
            server.client("worker").xadd("token-records:default", {"result": result})
            wait_for_line(consumer, f"^{lookup_id}: not_found$", 30)

        try:
            until(lambda: server.client("consumer").exists("token-records:default") or None)
            publish("first")
            server.restart()
            publish("second")
            consumer.send_signal(signal.SIGINT)
            assert consumer.wait(20) == 0
        finally:
            consumer.stop()


@pytest.mark.tools
def test_the_asyncapi_document_is_one() -> None:
    """By AsyncAPI's own schema, in which a document's schemas are checked too."""
    schema: Any = json.loads((ROOT / "tests/node/node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text())
    document = json.loads((ROOT / "docs/schemas/asyncapi.json").read_text())
    errors = [f"{list(error.path)}: {error.message[:200]}" for error in Draft7Validator(schema).iter_errors(document)]
    assert errors == []
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    for reference in references:
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        assert found, reference
