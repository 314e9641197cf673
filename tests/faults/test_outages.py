"""A provider that is sick costs nothing but time: workers, real providers, real circuits."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import MERCHANT, PRIVATE_KEY
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.cli.terminal import environment, piped

BULK = "lookup.opay.bulk"


@pytest.fixture
def service() -> Iterator[Service]:
    with RedisServer() as server, Simulator() as simulator:
        yield Service(server, simulator, RETRY_MAX_ATTEMPTS="5", RETRY_MAX_DELAY="1")


def opay(*names: str) -> list[object]:
    return [{"opay_token": f"OPAY_TOKEN_{name}"} for name in names]


def asked(service: Service, provider: str = "opay") -> int:
    return int(service.simulator.stats()["requests"].get(provider, 0))


def is_open(service: Service, name: str = "opay:default") -> bool:
    return service.redis.zscore("lookup:circuits", name) is not None


def open_circuit(service: Service) -> None:
    """Have it open because the provider is down."""
    service.simulator.behave(opay="down")
    service.send("opay", opay(*["visa"] * 100), lane="bulk", task_id="first")
    until(lambda: True if is_open(service) else None)


def found(service: Service, task_id: str, count: int, timeout: float = 40) -> list[dict[str, Any]]:
    results = service.results(task_id, count, timeout=timeout)
    assert {each["status"] for each in results} == {"found"}, [each["error"] for each in results if each["error"]]
    return results


def test_bulk_lookups_wait_in_redis_and_are_found_when_the_provider_is_back(service: Service) -> None:
    with service.worker():
        open_circuit(service)
        ids = [service.send("opay", opay(*["visa"] * 20), lane="bulk") for _ in range(50)]
        before = asked(service)
        time.sleep(4)
        assert asked(service) - before <= 4, "one a second at most, and that to try it"
        claims = list(service.redis.scan_iter("lookup:claim:*"))
        waiting = service.redis.llen(BULK) + service.redis.llen(f"lookup:given-back:{BULK}")
        assert waiting >= 45, f"{waiting} of 50 wait in their queue, {len(claims)} are claims"
        service.simulator.behave(opay="normal")
        found(service, "first", 100)
        for task_id in ids:
            assert {each["attempts"] for each in found(service, task_id, 20)} <= {1, 2}, "waiting charges no attempt"


def test_interactive_lookups_are_answered_at_once_while_it_is_open(service: Service) -> None:
    with service.worker():
        open_circuit(service)
        for _ in range(5):
            begun = time.monotonic()
            (result,) = service.results(service.send("opay", opay("visa")), 1)
            assert time.monotonic() - begun < 5
            assert (result["status"], result["error"]["category"], result["error"]["retryable"]) == (
                "failed",
                "unavailable",
                True,
            )


def test_failures_of_single_lookups_open_no_circuit(service: Service) -> None:
    with service.worker():
        names = ["not-found"] * 30 + ["code-20000"] * 30 + ["code-02006"] * 30
        service.results(service.send("opay", opay(*names), lane="bulk"), len(names))
        assert not is_open(service)


def test_the_accounts_that_are_well_go_on(service: Service, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.json"
    well = {"merchant_id": MERCHANT, "private_key": PRIVATE_KEY}
    sick = {**well, "base_url": "http://127.0.0.1:9"}
    accounts.write_text(json.dumps({"opay": {"well": well, "sick": sick}}))
    with service.worker(PROVIDER_ACCOUNTS_FILE=str(accounts)):
        mixed = [{**each, "account": name} for each in opay(*["visa"] * 40) for name in ("well", "sick")]  # type: ignore[dict-item]
        task_id = service.send("opay", mixed, lane="bulk")
        until(lambda: True if is_open(service, "opay:sick") else None)
        begun = time.monotonic()
        later = service.send("opay", [{**each, "account": "well"} for each in opay(*["visa"] * 40)], lane="bulk")  # type: ignore[dict-item]
        found(service, later, 40)
        assert time.monotonic() - begun < 10
        results = until(lambda: _of(service, task_id) if len(_of(service, task_id)) >= 40 else None)
        assert {(each["account"], each["status"]) for each in results} == {("well", "found")}
        # Those of the sick one wait for their time, but for moments in which one is tried.
        until(lambda: service.redis.zcard(f"lookup:delayed:{BULK}") or None)


def _of(service: Service, task_id: str) -> list[dict[str, Any]]:
    found = [json.loads(each["result"]) for each in service.entries("token-records:default")]
    return [each for each in found if each["task_id"] == task_id]


def test_an_operator_holds_a_provider_and_releases_it(service: Service) -> None:
    env = environment(service.server.url)
    with service.worker():
        held = piped(env, "circuit", "open", "opay", "--for", "2h", "--reason", "maintenance")
        assert (held.returncode, "not asked for 2 h" in held.stdout) == (0, True)
        time.sleep(1)
        task_id = service.send("opay", opay(*["visa"] * 20), lane="bulk")
        (result,) = service.results(service.send("opay", opay("visa")), 1)
        assert result["error"]["category"] == "unavailable"
        afterpay = service.send("afterpay", [{"original_request_id": "visa"}], lane="bulk")
        found(service, afterpay, 1)
        assert asked(service) == 0
        assert "maintenance" in piped(env, "circuit", "list").stdout
        assert "opay, all accounts: held open by an operator" in piped(env, "status").stdout
        assert piped(env, "circuit", "close", "opay").returncode == 0
        begun = time.monotonic()
        found(service, task_id, 20)
        assert time.monotonic() - begun < 8
        assert piped(env, "circuit", "close", "opay").returncode == 3


def test_a_provider_comes_back_by_one_lookup_and_then_by_more(service: Service) -> None:
    """After the trial there are few calls at once, and soon as many as before."""
    with service.worker():
        open_circuit(service)
        service.simulator.reset()
        service.simulator.behave(opay="down", latency=0.1)
        for number in range(40):
            service.send("opay", opay(*(f"visa~back-{number}-{each}" for each in range(20))), lane="bulk")
        service.simulator.behave(opay="normal")
        until(lambda: True if not is_open(service) else None, 30)
        time.sleep(0.4)
        few = service.simulator.stats()["in_flight_by_provider"]["opay"]
        assert few <= 8
        until(lambda: True if service.simulator.stats()["in_flight_by_provider"]["opay"] > 30 else None, 15)


def test_a_message_that_waited_too_long_calls_no_provider(service: Service) -> None:
    then = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "requested_at": then}])
    with service.worker():
        (result,) = service.results(task_id, 1)
        assert (result["status"], result["error"]["category"], result["attempts"]) == ("failed", "expired", 0)
        assert asked(service) == 0


def test_not_found_is_asked_again_while_it_may_be_too_early(service: Service) -> None:
    def ask(requested: datetime) -> dict[str, Any]:
        request = {"original_request_id": "not-found", "requested_at": requested.isoformat()}
        (result,) = service.results(service.send("afterpay", [request]), 1)
        return result

    with service.worker(AFTERPAY_NOT_FOUND_GRACE="60", RETRY_MAX_ATTEMPTS="3"):
        now = datetime.now(UTC)
        early, late = ask(now), ask(now - timedelta(seconds=61) + timedelta(seconds=40))
        assert (early["status"], early["attempts"]) == ("not_found", 3)
        assert late["attempts"] == 3
        assert ask(now - timedelta(seconds=61))["error"]["category"] == "expired"
    with service.worker():
        assert ask(datetime.now(UTC))["attempts"] == 1


def test_a_provider_that_hangs_takes_no_thread_of_the_other(service: Service) -> None:
    with service.worker("-c", "16"):
        service.simulator.behave(opay="hang")
        for lane in ("bulk", "interactive"):
            for _ in range(40):
                service.send("opay", opay("visa"), lane=lane)
        until(lambda: True if service.simulator.stats()["in_flight"] >= 8 else None)
        for lane in ("bulk", "interactive"):
            begun = time.monotonic()
            found(service, service.send("afterpay", [{"original_request_id": "visa"}] * 20, lane=lane), 20)
            assert time.monotonic() - begun < 5
        service.simulator.behave(opay="normal")


def test_a_bulk_backlog_takes_no_thread_of_an_interactive_lookup(service: Service) -> None:
    with service.worker("-c", "16", PROVIDER_CONCURRENCY="8"):
        service.simulator.behave(latency=0.5)
        for _ in range(100):
            service.send("opay", opay(*["visa"] * 20), lane="bulk")
        until(lambda: True if service.simulator.stats()["in_flight"] >= 6 else None)
        begun = time.monotonic()
        found(service, service.send("opay", opay("visa")), 1)
        assert time.monotonic() - begun < 3
        service.simulator.behave(latency=0)
