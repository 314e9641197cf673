"""What a worker tells Prometheus, asked over HTTP as Prometheus would."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from cardtoken.circuits import whole
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until
from tasks.telemetry import metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(port: int) -> Samples:
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=15)
    answer.raise_for_status()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


@contextmanager
def measured(service: Service, *args: str, **environment: str) -> Iterator[tuple[WorkerProcess, int]]:
    port = free_port()
    with service.worker(*args, METRICS_PORT=str(port), **environment) as worker:
        yield worker, port


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer() as server:
        yield Service(server, simulator)


def test_lookups_attempts_and_retries_are_counted_by_what_they_came_to(service: Service) -> None:
    names = ("visa", "not-found", "timeout-1", "code-20000", "code-77777", "unavailable-1")
    with measured(service) as (_, port):
        sent = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}~m"} for name in names])
        service.results(sent, len(names))
        bad = service.send("afterpay", [{"original_request_id": "visa", "account": "nobody"}], lane="bulk")
        service.results(bad, 1)

        def counted() -> Samples | None:
            found = scraped(port)
            return found if value(found, "cardtoken_queue_consumers", queue="lookup.opay.bulk") else None

        found = until(counted)
    opay = {"provider": "opay", "lane": "interactive"}

    def lookups(status: str, category: str = "", code: str = "") -> float | None:
        return value(found, "cardtoken_lookups_total", **opay, status=status, category=category, code=code)

    assert lookups("not_found") == 1
    assert lookups("found") == 3
    assert lookups("failed", "rejected", "20000") == 1
    assert lookups("failed", "rejected", "other") == 1, "a code that the table does not have is no label"
    assert value(found, "cardtoken_retries_total", **opay, category="timeout", code="09") == 1
    assert value(found, "cardtoken_attempts_total", **opay, outcome="found") == 3
    assert value(found, "cardtoken_attempts_total", **opay, outcome="timeout") == 1
    assert value(found, "cardtoken_exchange_seconds_count", provider="opay") == 8
    assert value(found, "cardtoken_lookup_seconds_count", **opay, status="found") == 3
    assert value(found, "cardtoken_calls_in_flight", provider="opay") == 0
    afterpay = {"provider": "afterpay", "lane": "bulk", "status": "failed", "category": "invalid_request", "code": ""}
    assert value(found, "cardtoken_lookups_total", **afterpay) == 1
    assert value(found, "cardtoken_exchange_seconds_count", provider="afterpay") == 0
    assert value(found, "cardtoken_redis_up") == 1
    assert value(found, "cardtoken_dead_letters") == 2


def test_every_worker_reports_queue_lengths_and_consumer_lag(service: Service) -> None:
    service.redis.flushall()
    service.redis.lpush("lookup.afterpay.bulk", b"waits", b"waits")
    service.redis.xadd("lookup:quarantine", {"raw": "x"})
    with measured(service, "-Q", "lookup.opay.interactive") as (worker, port):
        sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}])
        service.results(sent, 1)
        service.redis.xgroup_create("token-records:default", "shop", id="0")
        service.redis.zadd("lookup:circuits:forced", {whole("afterpay"): 4e12})

        def told() -> Samples | None:
            found = scraped(port)
            waiting = value(found, "cardtoken_queue_lookups", queue="lookup.afterpay.bulk")
            return found if waiting and value(found, "cardtoken_consumer_lag", queue="default", group="shop") else None

        found = until(told)
        assert worker.stop() == 0
    assert value(found, "cardtoken_queue_lookups", queue="lookup.afterpay.bulk") == 2
    assert value(found, "cardtoken_queue_lookups", queue="lookup.opay.bulk") == 0
    assert value(found, "cardtoken_queue_messages", queue="lookup.afterpay.bulk") == 2
    assert value(found, "cardtoken_queue_consumers", queue="lookup.afterpay.bulk") == 0
    assert value(found, "cardtoken_queue_consumers", queue="lookup.opay.interactive") == 1
    assert value(found, "cardtoken_consumer_lag", queue="default", group="shop") == 1
    assert value(found, "cardtoken_quarantine") == 1
    assert value(found, "cardtoken_circuit_state", provider="afterpay", account="*") == 2
    assert value(found, "cardtoken_circuit_state", provider="opay", account="default") == 0
    service.redis.flushall()


def test_redis_away_is_told_and_the_rest_goes_on(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        with measured(service) as (_, port):
            service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]), 1)
            server.kill()
            found = until(lambda: each if value(each := scraped(port), "cardtoken_redis_up") == 0 else None)
            assert value(found, "cardtoken_exchange_seconds_count", provider="opay") == 1
            assert value(found, "cardtoken_dead_letters") is None


def test_takeovers_and_suppressed_publications_are_counted(service: Service) -> None:
    service.redis.flushall()
    with service.worker("-Q", "lookup.opay.bulk", LEASE_SECONDS="1", FAULT_POINT="published:1") as doomed:
        task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa~s"}], lane="bulk")
        until(doomed.child.poll)
    with measured(service, "-Q", "lookup.opay.bulk", LEASE_SECONDS="1") as (_, port):
        until(lambda: True if value(scraped(port), "cardtoken_takeovers_total") == 1 else None)
        assert len(service.results(task_id, 1)) == 1
        service.redis.lpush("lookup.opay.bulk", b"{")
        until(lambda: True if value(scraped(port), "cardtoken_quarantined_total", queue="lookup.opay.bulk") else None)


def test_waiting_under_a_rate_limit_is_measured(service: Service) -> None:
    with measured(service, OPAY_RATE_LIMIT="20/s") as (_, port):
        sent = service.send("opay", [{"opay_token": f"OPAY_TOKEN_visa~{n}"} for n in range(15)], lane="bulk")
        service.results(sent, 15)
        found = scraped(port)
    labels = {"provider": "opay", "lane": "bulk"}
    assert value(found, "cardtoken_permit_wait_seconds_count", **labels) == 15
    assert (value(found, "cardtoken_permit_wait_seconds_sum", **labels) or 0) > 0.3


def test_a_port_that_is_taken_is_refused_with_the_way_out(service: Service) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = WorkerProcess({**service.environment, "METRICS_PORT": str(port)})
        assert worker.child.wait(30) == 78
        assert f"METRICS_PORT {port}" in worker.log
        assert "port of its own" in worker.log


def test_nothing_listens_where_no_metrics_are_wanted(service: Service) -> None:
    import psutil

    with service.worker() as worker:
        listening = [each for each in psutil.Process(worker.child.pid).net_connections() if each.status == "LISTEN"]
    assert listening == []


def test_every_metric_is_documented() -> None:
    from sandbox.environment import ROOT

    page = (ROOT / "docs" / "operations.md").read_text()
    for family in metrics.REGISTRY.collect():
        if family.name.startswith("cardtoken_"):
            assert family.documentation.endswith((".", "_limit."))
            assert f"`{family.name}" in page, family.name
