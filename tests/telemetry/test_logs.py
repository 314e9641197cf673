"""The log of a worker, as JSON and for a terminal."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until

SECRET = "8f7e6d5c4b3a29180706"


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer() as server:
        yield Service(server, simulator)


def documents(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_lookup_is_one_line_that_says_how_it_ended(service: Service) -> None:
    with service.worker("-Q", "lookup.opay.bulk") as worker:
        requests = [
            {"opay_token": f"OPAY_TOKEN_timeout-1~{SECRET}", "lookup_id": "order-1"},
            {"opay_token": f"OPAY_TOKEN_code-20000~{SECRET}", "lookup_id": "order-2", "metadata": {"m": SECRET}},
            {"opay_token": SECRET * 2, "lookup_id": SECRET * 2},
            {"opay_token": "", "lookup_id": "order-4"},
        ]
        task_id = service.send("opay", requests, lane="bulk")
        service.results(task_id, 4)
        until(lambda: True if sum(line["logger"] == "lookup" for line in documents(worker.lines)) >= 5 else None)
        told = documents(worker.lines)
        assert worker.stop() == 0
    lines = [line for line in told if line["logger"] == "lookup"]
    ended = {line["lookup_id"]: line for line in lines if "lookup_id" in line}
    assert set(ended) == {"order-1", "order-2", f"****{SECRET[-4:]}", "order-4"}
    for line in ended.values():
        assert (line["provider"], line["account"], line["lane"]) == ("opay", "default", "bulk")
        assert line["task_id"] == task_id
        assert line["level"] == "INFO"
        assert line["total_seconds"] >= line.get("call_seconds", 0)
    assert (ended["order-1"]["status"], ended["order-1"]["attempts"]) == ("found", 2)
    refused = ended["order-2"]
    assert (refused["status"], refused["category"], refused["code"]) == ("failed", "rejected", "20000")
    assert refused["call_seconds"] >= 0
    assert ended["order-4"]["category"] == "invalid_request"
    assert "call_seconds" not in ended["order-4"], "no provider was called"
    (again,) = (line for line in lines if "again_in" in line)
    assert again["message"].startswith("retry: opay: 1 timeout 09 at attempt 1")
    assert (again["lookups"], again["task_id"]) == (1, task_id)
    assert len(lines) == 5
    assert SECRET not in json.dumps(told).replace(f"****{SECRET[-4:]}", "")


def test_celery_says_nothing_of_each_message(service: Service) -> None:
    with service.worker() as worker:
        service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]), 1)
        assert worker.stop() == 0
        assert not any("succeeded in" in line or "] received" in line for line in worker.lines)


def test_for_a_terminal_it_is_made_to_be_read(service: Service) -> None:
    with service.worker(LOG_FORMAT="console") as worker:
        requests = [
            {"opay_token": f"OPAY_TOKEN_{name}~read", "lookup_id": name} for name in ("visa", "timeout-1", "code-20000")
        ]
        task_id = service.send("opay", requests)
        service.results(task_id, 3)
        until(lambda: True if sum(name in worker.log for name in ("visa", "timeout-1", "code-20000")) == 3 else None)
        assert worker.stop() == 0
    lines = [re.sub(r"[\d.e-]+ s\b", "… s", line) for line in worker.lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    said = [line.partition(" ")[2] for line in lines]
    assert "found     opay interactive visa, … s" in said
    assert "failed    opay interactive code-20000: rejected 20000, … s" in said
    assert f"retry: opay: 1 timeout 09 at attempt 1; again in … s [{task_id[:8]}]" in said
    assert "found     opay interactive timeout-1, 2 attempts, … s" in said
    assert all(len(line) < 80 for line in lines)
    assert documents(worker.lines) == []
