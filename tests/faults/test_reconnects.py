"""A lost connection: nothing that was taken is forgotten, and no more is taken than there is room for."""

import time

from sandbox.ledger import Ledger
from sandbox.processes import wait_for_line
from sandbox.service import Service, WorkerProcess
from sandbox.waiting import until

THREADS = 2


def cut(service: Service, worker: WorkerProcess) -> None:
    """Cut every connection of the worker's, and wait until it consumes again."""
    said = len(worker.lines)
    for client in service.redis.client_list():
        if client["cmd"] != "client|list":
            service.redis.client_kill_filter(_id=client["id"])
    until(lambda: True if any("Connected to redis" in line for line in worker.lines[said:]) else None)
    time.sleep(1.5)  # it has seen what there is to be taken


def test_messages_that_wait_for_a_rate_limit_go_back_when_the_connection_is_lost(service: Service) -> None:
    ledger = Ledger(service)
    with service.worker("-c", "4", LEASE_SECONDS="60") as worker:
        service.producer.control.rate_limit("lookup.opay", "1/m", reply=True, timeout=2)
        for number in range(4):
            ledger.send([f"OPAY_TOKEN_visa~limited-{number}"])
        until(lambda: True if service.redis.zcard("lookup:leases") == 3 else None)
        # Celery forgets what it holds back, and with it the limit is lifted for this worker.
        service.producer.control.rate_limit("lookup.opay", 0, reply=True, timeout=2)
        cut(service, worker)
        ledger.settled()


def test_a_worker_that_reconnects_again_and_again_holds_no_more_than_it_may(service: Service) -> None:
    ledger = Ledger(service)
    with service.worker("-c", str(THREADS), LEASE_SECONDS="60") as worker:
        for number in range(20):
            ledger.send([f"OPAY_TOKEN_slow-6~held-{number}"], lane="bulk")
        until(lambda: True if service.simulator.stats()["in_flight"] >= THREADS else None)
        held = []
        for _ in range(3):
            cut(service, worker)
            held.append(service.redis.zcard("lookup:leases"))
        assert max(held) <= THREADS
        assert worker.stop() == 0
    assert not service.redis.zcard("lookup:leases")


def test_a_queue_whose_name_is_taken_stops_no_other(service: Service) -> None:
    service.redis.set("lookup.opay.bulk", "another program's")
    ledger = Ledger(service)
    with service.worker() as worker:
        wait_for_line(worker.child, r"lookup\.opay\.bulk is not a list", 10)
        for number in range(5):
            ledger.send([f"OPAY_TOKEN_visa~beside-{number}"])
        until(lambda: True if len(ledger.found()) == 5 else None)
        service.redis.delete("lookup.opay.bulk")
        ledger.send(["OPAY_TOKEN_visa~free-again"], lane="bulk")
        ledger.settled()
        assert len([line for line in worker.lines if "is not a list" in line]) == 1
