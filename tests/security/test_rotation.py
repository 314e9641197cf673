"""Keys are changed while a worker runs: it takes up new ones, no lookup fails, and a broken file changes nothing."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.environment import CLIENT, CLIENT_SECRET, MERCHANT, PRIVATE_KEY, ROOT
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until
from tests.cli.terminal import CARDTOKEN, environment
from tests.telemetry.envelopes import SentryServer

NEW_KEY, NEW_SECRET = "OPAYPRV-new-key", "a-new-secret"
REFERENCE = {"opay": "opay_token", "afterpay": "original_request_id"}


class Rotating:
    """A service whose accounts are in a file, and providers with keys of their own."""

    def __init__(self, folder: Path, service: Service, port: int) -> None:
        self.service = service
        self.simulator = service.simulator
        self.file = folder / "accounts.json"
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        self.sent: list[str] = []
        for name in [each for each in service.environment if each.startswith(("OPAY_", "AFTERPAY_"))]:
            if not name.endswith("_BASE_URL"):
                del service.environment[name]
        service.environment |= {"PROVIDER_ACCOUNTS_FILE": str(self.file), "METRICS_PORT": str(port)}

    def write(self, key: str = PRIVATE_KEY, secret: str = CLIENT_SECRET, **further: dict[str, str]) -> None:
        """Put an account of each provider into the file, by a rename; ``further`` accounts are OPay's."""
        default = {"merchant_id": MERCHANT, "private_key": key}
        text = {
            "opay": {"default": default, **further},
            "afterpay": {"default": {"client_id": CLIENT, "client_secret": secret}},
        }
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(text), encoding="utf-8")
        fresh.rename(self.file)

    def ask(self, provider: str, name: str = "visa", **fields: str) -> dict[str, Any]:
        """Return the result of one lookup."""
        reference = f"OPAY_TOKEN_{name}" if provider == "opay" else name
        task = self.service.send(provider, [{REFERENCE[provider]: f"{reference}~{len(self.sent)}", **fields}])
        self.sent.append(task)
        return self.service.results(task, 1)[0]

    def metric(self, name: str) -> float:
        lines = requests.get(self.metrics_url, timeout=10).text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rotating, WorkerProcess]]:
    with RedisServer() as server, Simulator() as simulator:
        service = Service(server, simulator)
        rotating = Rotating(tmp_path_factory.mktemp("keys"), service, free_port())
        rotating.write()
        with service.worker() as worker:
            yield rotating, worker


def test_rotated_keys_are_used_within_seconds_and_no_lookup_is_refused(
    running: tuple[Rotating, WorkerProcess],
) -> None:
    rotating, worker = running
    simulator, stop = rotating.simulator, threading.Event()
    simulator.accept("opay", MERCHANT, PRIVATE_KEY, NEW_KEY)
    simulator.accept("afterpay", CLIENT, CLIENT_SECRET, NEW_SECRET)
    results: list[dict[str, Any]] = []

    def ask() -> None:
        while not stop.is_set():
            results.append(rotating.ask("opay" if len(results) % 2 else "afterpay"))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    until(lambda: True if len(results) > 10 else None)
    rotating.write(NEW_KEY, NEW_SECRET)
    until(lambda: simulator.accepted("opay", MERCHANT)[1] or None)
    until(lambda: simulator.accepted("afterpay", CLIENT)[1] or None)
    # The old keys are used no more: the providers drop them, and nothing is refused.
    simulator.accept("opay", MERCHANT, NEW_KEY)
    simulator.accept("afterpay", CLIENT, NEW_SECRET)
    count = len(results)
    until(lambda: True if len(results) > count + 10 else None)
    stop.set()
    asking.join(20)
    assert {(result["status"], result["attempts"]) for result in results} == {("found", 1)}
    assert simulator.stats()["refused"] == {"opay": 0, "afterpay": 0}
    assert "new keys or accounts are in use" in worker.log


def test_a_key_that_the_provider_dropped_before_is_replaced_within_the_call(
    running: tuple[Rotating, WorkerProcess],
) -> None:
    rotating, _ = running
    rotating.simulator.accept("opay", MERCHANT, "a-third-key")
    rotating.write("a-third-key", NEW_SECRET)
    result = rotating.ask("opay")
    assert (result["status"], result["attempts"] <= 2) == ("found", True)


def test_accounts_come_and_go_and_have_rate_limits(running: tuple[Rotating, WorkerProcess]) -> None:
    rotating, _ = running
    rotating.simulator.accept("opay", MERCHANT, PRIVATE_KEY)
    rotating.simulator.accept("opay", "256612345678902", "another-key")
    other = {"merchant_id": "256612345678902", "private_key": "another-key", "rate_limit": "120/m"}
    assert rotating.ask("opay", account="emea")["error"]["message"] == "account: there is no such account"
    rotating.write(PRIVATE_KEY, NEW_SECRET, emea=other)
    until(lambda: True if rotating.ask("opay", account="emea")["status"] == "found" else None)
    begun = time.monotonic()
    for _ in range(3):
        assert rotating.ask("opay", account="emea")["status"] == "found"
    # Two calls a second, three of four after the first at the soonest; the limit is this account's alone.
    assert time.monotonic() - begun > 0.5
    assert rotating.service.redis.exists("lookup:rate:opay:emea")
    assert not rotating.service.redis.exists("lookup:rate:opay:default")
    rotating.write(PRIVATE_KEY, NEW_SECRET)
    until(lambda: True if rotating.ask("opay", account="emea")["status"] == "failed" else None)
    assert rotating.ask("opay")["status"] == "found"


def test_a_broken_file_keeps_the_old_keys_and_is_told_everywhere(running: tuple[Rotating, WorkerProcess]) -> None:
    rotating, worker = running
    good = rotating.file.read_text(encoding="utf-8")
    since = rotating.metric("cardtoken_config_last_reload_success_timestamp_seconds")
    rotating.file.write_text(good.replace(PRIVATE_KEY, "canary-key")[:-9], encoding="utf-8")
    until(lambda: True if rotating.metric("cardtoken_config_last_reload_successful") == 0 else None)
    assert rotating.metric("cardtoken_config_last_reload_success_timestamp_seconds") == since
    said = "PROVIDER_ACCOUNTS_FILE is not JSON"
    status = until(lambda: text if said in (text := cardtoken(rotating, "status")) else None)
    assert f"attention {worker.name}: it uses its old keys or accounts: {said}" in status
    assert said in cardtoken(rotating, "status", "--json")
    assert rotating.ask("opay")["status"] == "found"
    assert worker.log.count(said) == 1
    assert "canary-key" not in worker.log
    rotating.file.write_text(good, encoding="utf-8")
    until(lambda: True if rotating.metric("cardtoken_config_last_reload_successful") == 1 else None)
    until(lambda: True if said not in cardtoken(rotating, "status") else None)


def cardtoken(rotating: Rotating, *args: str) -> str:
    env = environment(rotating.service.server.url)
    return subprocess.run([*CARDTOKEN, *args], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def test_a_new_password_of_redis_and_a_new_dsn_of_sentry_are_used_from_then_on(
    tmp_path: Path, simulator: Simulator
) -> None:
    with RedisServer(password="old-password") as server, SentryServer() as former, SentryServer() as sentry:
        service = Service(server, simulator)
        url = tmp_path / "redis"
        url.write_text(server.url, encoding="utf-8")
        dsn = tmp_path / "dsn"
        dsn.write_text(former.dsn, encoding="utf-8")
        del service.environment["REDIS_URL"]
        with service.worker(REDIS_URL_FILE=str(url), SENTRY_DSN_FILE=str(dsn)) as worker:
            service.redis.execute_command("ACL", "SETUSER", "default", ">new-password")
            url.write_text(server.url.replace("old-password", "new-password"), encoding="utf-8")
            dsn.write_text(sentry.dsn, encoding="utf-8")
            until(lambda: True if "new keys or accounts are in use" in worker.log else None)
            service.redis.execute_command("ACL", "SETUSER", "default", "<old-password")
            # Every connection of the worker is made anew.
            for client in service.redis.client_list():
                if client["name"].startswith("cardtoken"):
                    service.redis.client_kill_filter(_id=client["id"])
            service.redis.connection_pool.connection_kwargs["password"] = "new-password"
            service.producer.conf["broker_url"] = server.url.replace("old-password", "new-password")
            task = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}"} for name in ("code-20000", "visa")])
            assert [each["status"] for each in service.results(task, 2)] == ["failed", "found"]
            until(lambda: True if "cardtoken-celery" in clients(service) else None)
            assert "Traceback" not in worker.log
            assert worker.stop() == 0
            assert (former.raw, len(sentry.raw) > 0) == ([], True)


def clients(service: Service) -> set[str]:
    return {client["name"] for client in service.redis.client_list()}
