"""The worker as a process: what it consumes, how it retries, what it shows, how it starts and stops."""

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.events import EventReceiver

from sandbox.processes import ChildEndedError, wait_for_line
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until

SECRET = "OPAY_TOKEN_timeout-2~7c9e6679f3b4d3a1"


@pytest.fixture
def fresh(simulator: Simulator) -> Iterator[Service]:
    """A service on a server of its own, with no worker yet."""
    with RedisServer(appendonly=True, appendfsync="always") as server:
        yield Service(server, simulator)


class Events:
    """What Celery's monitors (so Flower) are told, gathered as it comes."""

    def __init__(self, service: Service) -> None:
        self.seen: list[dict[str, Any]] = []
        self._connection = service.producer.connection_for_read()
        self._receiver = EventReceiver(self._connection, handlers={"*": self.seen.append}, app=service.producer)
        self._thread = threading.Thread(target=self._receiver.capture, kwargs={"limit": None, "wakeup": False})
        before = service.redis.pubsub_numpat()
        self._thread.start()
        until(lambda: True if service.redis.pubsub_numpat() > before else None)

    def close(self) -> None:
        self._receiver.should_stop = True
        self._thread.join(10)
        self._connection.close()


def test_a_retry_is_a_celery_retry_with_its_reason(service: Service) -> None:
    events = Events(service)
    try:
        task_id = service.send("opay", [{"opay_token": SECRET, "metadata": {"name": "Amina Hassan"}}])
        [result] = service.results(task_id, 1)
        assert (result["status"], result["attempts"]) == ("found", 3)

        def ended() -> list[dict[str, Any]] | None:
            ours = [event for event in events.seen if event.get("uuid") == task_id]
            return ours if any(event["type"] == "task-succeeded" for event in ours) else None

        ours = until(ended)
    finally:
        events.close()
    reasons = [event["exception"] for event in ours if event["type"] == "task-retried"]
    assert [re.sub(r"\d\.\d s", "_ s", reason) for reason in reasons] == [
        "opay: 1 timeout 09 at attempt 1; again in _ s",
        "opay: 1 timeout 09 at attempt 2; again in _ s",
    ]
    assert {event["kwargs"] for event in ours if event["type"] == "task-received"} == {"1 lookup · opay · default"}
    told = json.dumps(events.seen)
    assert SECRET not in told
    assert "7c9e6679f3b4d3a1" not in told
    assert "Amina" not in told


def test_a_new_listener_hears_every_later_event_once(service: Service) -> None:
    for number in range(3):  # without a listener
        service.results(service.send("opay", [{"opay_token": f"OPAY_TOKEN_visa~unheard-{number}"}]), 1)
    events = Events(service)
    try:
        sent = [service.send("opay", [{"opay_token": f"OPAY_TOKEN_visa~heard-{number}"}]) for number in range(20)]

        def heard() -> Counter[tuple[str, str]] | None:
            found = Counter((event["uuid"], event["type"]) for event in events.seen if event.get("uuid") in sent)
            return found if sum(kind == "task-succeeded" for _, kind in found) == len(sent) else None

        told = until(heard)
    finally:
        events.close()
    kinds = ("task-received", "task-started", "task-succeeded")
    assert told == Counter((task_id, kind) for task_id in sent for kind in kinds)


def test_inspection_shows_how_many_and_never_what(service: Service) -> None:
    secret = "OPAY_TOKEN_slow-2~0123456789abcdef"
    task_id = service.send("opay", [{"opay_token": secret}])
    inspect = service.producer.control.inspect(timeout=1)

    def active() -> Any:
        found = [task for tasks in (inspect.active() or {}).values() for task in tasks]
        return found or None

    shown = until(active)
    assert [task["id"] for task in shown] == [task_id]
    assert shown[0]["kwargs"] == "1 lookup · opay · default"
    assert "0123456789abcdef" not in json.dumps(shown)
    service.results(task_id, 1)


def test_the_debug_log_shows_no_secret(fresh: Service) -> None:
    requests = [
        {"opay_token": "OPAY_TOKEN_visa~00112233445566778899", "metadata": {"k": "metadata-00112233"}},
        {"opay_token": "OPAY_TOKEN_timeout-1~00112233445566778899"},
        {"opay_token": "OPAY_TOKEN_echo-secrets~00112233445566778899"},
        {"opay_token": "OPAY_TOKEN_malformed~00112233445566778899"},
        {"opay_token": ["OPAY_TOKEN_00112233445566778899"]},
    ]
    afterpay = [
        {"original_request_id": f"{name}~00112233445566778899"} for name in ("visa", "unavailable-1", "reset-1")
    ]
    fresh.redis.lpush("lookup.opay.bulk", b'{"00112233445566778899": "OPAY_TOKEN_00112233445566778899"')
    with fresh.worker("-Q", "lookup.opay.bulk,lookup.afterpay.bulk", level="DEBUG") as worker:
        fresh.results(fresh.send("opay", requests, lane="bulk"), 5)
        fresh.results(fresh.send("afterpay", afterpay, lane="bulk"), 3)
        assert worker.stop() == 0
        log = worker.log
    assert "again_in" in log
    for secret in ("00112233", "OPAYPRV", "merchantABC", "Bearer", "YWZ0ZXJwYXk6", "@example.com"):
        assert secret not in log, secret


def test_a_fast_lookup_does_not_wait_for_a_slow_one_of_its_list(service: Service) -> None:
    requests = [{"opay_token": f"OPAY_TOKEN_{name}~list", "reply_to": "pace"} for name in ("slow-1.5", "visa", "amex")]
    task_id = service.send("opay", requests)
    service.results(task_id, 3, "pace")
    published = {
        fields[b"lookup_id"].decode(): (int(entry.split(b"-")[0]) / 1000, json.loads(fields[b"result"]))
        for entry, fields in service.redis.xrange("token-records:pace")
    }
    for at, result in published.values():
        assert at - datetime.fromisoformat(result["completed_at"]).timestamp() < 0.25
    assert published[f"{task_id}:0"][0] - published[f"{task_id}:1"][0] > 1


def test_only_what_still_needs_it_is_tried_again(service: Service) -> None:
    names = ["visa~once", "timeout-1~once", "not-found~once", "unavailable-2~once"]
    requests = [{"opay_token": f"OPAY_TOKEN_{name}", "lookup_id": f"id-{i}"} for i, name in enumerate(names)]
    results = service.results(service.send("opay", requests), 4)
    assert [result["attempts"] for result in results] == [1, 2, 1, 3]
    assert [result["lookup_id"] for result in results] == [f"id-{i}" for i in range(4)]
    stats = service.simulator.stats(*[f"OPAY_TOKEN_{name}" for name in names])["by_reference"]
    assert [stats[f"OPAY_TOKEN_{name}"]["calls"] for name in names] == [1, 2, 1, 3]
    assert len({result["requested_at"] for result in results}) == 1, "a retry keeps the time of the first sight"


def test_retry_after_is_honoured_and_holds_no_other_account_back(service: Service) -> None:
    limited, other = "OPAY_TOKEN_rate-limited-1-2~hold", "timeout-1~hold"
    task_id = service.send("opay", [{"opay_token": limited}])
    service.results(service.send("afterpay", [{"original_request_id": other}]), 1)
    service.results(task_id, 1)
    stats = service.simulator.stats(limited, other)["by_reference"]
    first, second = stats[limited]["at"]
    assert second - first >= 2
    first, second = stats[other]["at"]
    assert second - first < 2


def test_a_retry_that_would_start_after_the_deadline_is_not_made(service: Service) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    reference = "OPAY_TOKEN_rate-limited-9-30~deadline"
    [result] = service.results(service.send("opay", [{"opay_token": reference, "deadline": soon}]), 1, timeout=5)
    assert (result["error"]["category"], result["attempts"]) == ("rate_limited", 1)


def test_a_provider_without_an_account_is_left_alone(fresh: Service) -> None:
    with fresh.worker(AFTERPAY_CLIENT_ID="", AFTERPAY_CLIENT_SECRET="") as worker:
        fresh.send("afterpay", [{"original_request_id": "visa"}], lane="interactive")
        fresh.send("afterpay", [{"original_request_id": "visa"}], lane="bulk")
        assert fresh.results(fresh.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]), 1)[0]["status"] == "found"
        assert fresh.redis.llen("lookup.afterpay.interactive") == fresh.redis.llen("lookup.afterpay.bulk") == 1
        assert "lookup.afterpay.bulk" not in worker.log


def test_each_account_is_used_with_its_own_credentials(fresh: Service, tmp_path: Path) -> None:
    accounts = {
        "opay": {
            "second": {"merchant_id": "256612345678902", "private_key": "OPAYPRV16160617080051.720491836502774"},
            "wrong": {"merchant_id": "256612345678902", "private_key": "OPAYPRV16160617080050.388604510744898"},
        },
        "afterpay": {"second": {"client_id": "afterpay-second", "client_secret": "merchantXYZ", "merchant": "Shop"}},
    }
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps(accounts))
    with fresh.worker(PROVIDER_ACCOUNTS_FILE=str(path)):
        names = ["default", "second", "wrong", "third"]
        task_id = fresh.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "account": name} for name in names])
        results = fresh.results(task_id, 4)
        assert [(result["account"], result["status"]) for result in results] == [
            ("default", "found"),
            ("second", "found"),
            ("wrong", "failed"),
            ("third", "failed"),
        ]
        assert [result["error"]["category"] for result in results[2:]] == ["authentication", "invalid_request"]
        task_id = fresh.send("afterpay", [{"original_request_id": "visa", "account": "second"}])
        assert fresh.results(task_id, 1)[0]["status"] == "found"


def test_only_the_named_result_queues_may_be_written_to(fresh: Service) -> None:
    with fresh.worker(RESULT_QUEUES="autopay, checkout"):
        places = ["autopay", "checkout", "reply.1", "elsewhere"]
        task_id = fresh.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "reply_to": place} for place in places])
        assert [fresh.results(task_id, 1, place)[0]["status"] for place in places[:3]] == ["found"] * 3
        [refused] = fresh.results(task_id, 1)
        assert (refused["lookup_id"], refused["error"]["category"]) == (f"{task_id}:3", "invalid_request")
        assert not fresh.redis.exists("token-records:elsewhere")


def test_a_result_waits_for_redis_to_come_back(fresh: Service) -> None:
    with fresh.worker() as worker:
        task_id = fresh.send("opay", [{"opay_token": "OPAY_TOKEN_slow-1"}])
        until(lambda: fresh.simulator.stats("OPAY_TOKEN_slow-1")["by_reference"] or None)
        fresh.server.stop()
        wait_for_line(worker.child, "Redis cannot be asked", 20)
        fresh.server.start()
        [result] = fresh.results(task_id, 1, timeout=30)
        assert result["status"] == "found"
        assert worker.child.poll() is None


def test_a_worker_waits_for_a_redis_that_is_not_there_yet(fresh: Service) -> None:
    fresh.server.stop()
    worker = WorkerProcess(fresh.environment)
    wait_for_line(worker.child, "is not there yet", 20)
    fresh.server.start()
    worker.ready()
    assert fresh.results(fresh.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]), 1)[0]["status"] == "found"
    assert worker.stop() == 0


def test_a_redis_that_may_evict_is_refused(simulator: Simulator) -> None:
    with RedisServer(extra={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as server:
        worker = WorkerProcess(Service(server, simulator).environment)
        assert worker.child.wait(20) == 78
        assert "allkeys-lru" in worker.log
        assert "CONFIG SET maxmemory-policy noeviction" in worker.log


def test_a_redis_that_is_too_old_is_refused(fresh: Service) -> None:
    """An old server is played by a socket that answers every command with the INFO of Redis 5."""
    info = b"redis_version:5.0.14\r\nmaxmemory_policy:noeviction\r\n"

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                # One answer for each command of a pipeline; a redis-py client opens with several.
                for _ in range(len(re.findall(rb"(?:^|\r\n)\*\d+\r\n", data))):
                    connection.sendall(b"$%d\r\n%s\r\n" % (len(info), info) if b"INFO" in data else b"+OK\r\n")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        worker = WorkerProcess({**fresh.environment, "REDIS_URL": url})
        assert worker.child.wait(20) == 78
    assert "version 5.0.14; 6.2 or later is needed" in worker.log


def test_a_password_that_redis_refuses_is_told_without_it(simulator: Simulator) -> None:
    with RedisServer(password="correct-horse") as server:
        service = Service(server, simulator)
        url = server.url.replace("correct-horse", "wrong-battery")
        assert url != server.url
        worker = WorkerProcess({**service.environment, "REDIS_URL": url})
        assert worker.child.wait(20) == 78
        assert "refuses the user or password in REDIS_URL" in worker.log
        assert "wrong-battery" not in worker.log


def test_sigterm_ends_a_worker_whose_retries_wait(fresh: Service) -> None:
    with fresh.worker(RETRY_BASE_DELAY="30", RETRY_MAX_DELAY="60") as worker:
        fresh.send("opay", [{"opay_token": "OPAY_TOKEN_rate-limited-1-30~term"}], lane="bulk")
        wait_for_line(worker.child, "again_in", 20)
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 10


def test_sigterm_lets_a_running_lookup_end_and_publishes_it(fresh: Service) -> None:
    with fresh.worker() as worker:
        task_id = fresh.send("opay", [{"opay_token": "OPAY_TOKEN_slow-1.5~term"}])
        until(lambda: fresh.simulator.stats("OPAY_TOKEN_slow-1.5~term")["by_reference"] or None)
        assert worker.stop() == 0
        assert fresh.results(task_id, 1, timeout=0.1)[0]["status"] == "found"


def test_a_worker_that_cannot_start_says_so_and_ends(fresh: Service) -> None:
    worker = WorkerProcess({**fresh.environment, "HTTP_READ_TIMEOUT": "soon"})
    with pytest.raises(ChildEndedError):
        worker.ready()
    assert worker.child.returncode == 78
    assert "HTTP_READ_TIMEOUT" in worker.log
    assert "Traceback" not in worker.log
