"""A worker that is asked to stop finishes what runs, gives back the rest, and loses nothing."""

import signal
import time

import pytest

from sandbox.ledger import Ledger
from sandbox.processes import wait_for_line
from sandbox.service import Service, WorkerProcess
from sandbox.waiting import until


def busy(service: Service, count: int) -> None:
    until(lambda: True if service.simulator.stats()["in_flight"] >= count else None)


def test_sigterm_finishes_running_calls_and_gives_back_the_rest_of_the_list(service: Service) -> None:
    ledger = Ledger(service)
    references = [f"OPAY_TOKEN_slow-0.5~stop-{i}" for i in range(60)]
    with service.worker(PROVIDER_CONCURRENCY="4") as worker:
        ledger.send(references)
        busy(service, 4)
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 5
    published = len(ledger.found())
    assert 0 < published < 60
    called = service.simulator.stats(*references)["by_reference"]
    assert len(called) == published, "what was begun was published, and nothing else was begun"
    assert not service.redis.zcard("lookup:leases"), "nothing waits for a lease to run out"
    with service.worker():
        ledger.settled()
    called = service.simulator.stats(*references)["by_reference"]
    assert {seen["calls"] for seen in called.values()} == {1}


def test_sigterm_gives_back_messages_that_were_not_begun(service: Service) -> None:
    ledger = Ledger(service)
    with service.worker("-c", "1", "--prefetch-multiplier", "8") as worker:
        for number in range(8):
            ledger.send([f"OPAY_TOKEN_slow-0.7~reserved-{number}"])
        until(lambda: True if service.redis.zcard("lookup:leases") == 8 else None)
        assert worker.stop() == 0
    assert not service.redis.zcard("lookup:leases")
    assert len(ledger.found()) < 8
    with service.worker():
        ledger.settled()


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGTERM, signal.SIGTERM],
        [signal.SIGQUIT],
        [signal.SIGINT, signal.SIGINT],
        [signal.SIGTERM, signal.SIGQUIT],
    ],
    ids=["SIGTERM twice", "SIGQUIT", "Ctrl-C twice", "SIGTERM, SIGQUIT"],
)
def test_a_second_signal_gives_running_messages_back_too(service: Service, signals: list[signal.Signals]) -> None:
    ledger = Ledger(service)
    worker = WorkerProcess(service.environment).ready()
    ledger.send([f"OPAY_TOKEN_slow-8~{signals}-{i}" for i in range(3)], lane="bulk")
    busy(service, 3)
    begun = time.monotonic()
    for number in signals:
        worker.child.send_signal(number)
        time.sleep(0.5)  # as a person does; two of a kind at once are one
    assert worker.child.wait(6) == 0
    assert time.monotonic() - begun < 4
    assert service.redis.llen("lookup:given-back:lookup.opay.bulk") == 1
    assert not service.redis.zcard("lookup:leases")


@pytest.mark.parametrize("how", ["control", "SIGHUP"])
def test_a_worker_that_is_ended_begins_no_further_call(service: Service, how: str) -> None:
    ledger = Ledger(service)
    with service.worker(PROVIDER_CONCURRENCY="4") as worker:
        ledger.send([f"OPAY_TOKEN_slow-0.5~{how}-{i}" for i in range(80)])
        busy(service, 4)
        begun = time.monotonic()
        if how == "control":
            service.producer.control.shutdown()
            assert worker.child.wait(10) == 0
        else:
            worker.child.send_signal(signal.SIGHUP)  # Celery starts the worker anew, in the same process
            wait_for_line(worker.child, "Restarting celery worker", 10)
        assert time.monotonic() - begun < 5
    with service.worker():
        ledger.settled()


def test_sigquit_under_a_backlog_takes_nothing_up_again(service: Service) -> None:
    worker = WorkerProcess(service.environment, "-c", "8").ready()
    for number in range(400):
        service.send("opay", [{"opay_token": f"OPAY_TOKEN_slow-0.05~backlog-{number}"}], lane="bulk")
    until(lambda: True if len(service.entries("token-records:default")) > 20 else None)
    worker.child.send_signal(signal.SIGQUIT)
    assert worker.child.wait(10) == 0
    assert not service.redis.zcard("lookup:leases")


def test_sigterm_ends_a_worker_whose_redis_is_away(service: Service) -> None:
    worker = WorkerProcess(service.environment).ready()
    service.send("opay", [{"opay_token": "OPAY_TOKEN_slow-1~away"}])
    busy(service, 1)
    service.server.kill()
    wait_for_line(worker.child, "Redis cannot be asked", 20)
    assert worker.stop(20) == 0
    service.server.start()
    with service.worker():
        until(lambda: True if len(service.entries("token-records:default")) == 1 else None)
