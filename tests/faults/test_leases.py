"""Leases: held by the living, taken over from the dead and the frozen."""

import signal
import time
import uuid

from sandbox.ledger import Ledger
from sandbox.service import Service, WorkerProcess
from sandbox.waiting import until
from tests.faults.conftest import LEASE


def test_a_message_that_takes_longer_than_the_lease_is_run_once(service: Service) -> None:
    ledger = Ledger(service)
    reference = f"OPAY_TOKEN_slow-{LEASE * 3}~long"
    with service.worker(), service.worker():
        ledger.send([reference])
        ledger.settled()
    assert service.simulator.stats(reference)["by_reference"][reference]["calls"] == 1


def test_a_frozen_worker_is_replaced_and_goes_on_afterwards(service: Service) -> None:
    ledger = Ledger(service)
    frozen = WorkerProcess(service.environment).ready()
    for number in range(5):
        ledger.send([f"OPAY_TOKEN_slow-1~frozen-{number}-{i}" for i in range(4)])
    until(lambda: True if service.redis.zcard("lookup:leases") == 5 else None)
    frozen.freeze()
    try:
        with service.worker():
            assert ledger.settled() < LEASE + 6
            frozen.child.send_signal(signal.SIGCONT)
            # What it had in hand is refused now; what comes next is as good as ever.
            for number in range(20):
                ledger.send([f"OPAY_TOKEN_visa~thawed-{number}"])
            ledger.settled()
        ledger.send(["OPAY_TOKEN_visa~alone"])
        ledger.settled()
    finally:
        frozen.child.send_signal(signal.SIGCONT)
        assert frozen.stop() == 0


def test_a_killed_workers_messages_are_taken_over_soon_after_the_lease(service: Service) -> None:
    ledger = Ledger(service)
    victim = WorkerProcess(service.environment).ready()
    ledger.send(["OPAY_TOKEN_slow-1~takeover"])
    until(lambda: True if service.redis.zcard("lookup:leases") == 1 else None)
    with service.worker():
        victim.child.kill()
        died = time.monotonic()
        ledger.settled()
        assert time.monotonic() - died < LEASE + 5


def test_the_same_message_delivered_twice_at_once_has_one_result(service: Service) -> None:
    task_id = str(uuid.uuid4())
    requests = [{"opay_token": f"OPAY_TOKEN_slow-0.3~twin-{i}"} for i in range(5)]
    service.send("opay", requests, task_id=task_id)
    [raw] = service.redis.lrange("lookup.opay.interactive", 0, -1)
    service.redis.lpush("lookup.opay.interactive", *[raw] * 5)
    ledger = Ledger(service)
    ledger.sent.update((task_id, index) for index in range(5))
    with service.worker(), service.worker():
        ledger.settled()


def test_a_delay_waits_in_redis_across_workers_and_runs_once(service: Service) -> None:
    reference = "OPAY_TOKEN_visa~delayed"
    begun = time.time()
    with service.worker():
        task_id = service.send("opay", [{"opay_token": reference}], countdown=LEASE * 4)
        until(lambda: True if service.redis.zcard("lookup:delayed:lookup.opay.interactive") == 1 else None)
    assert service.redis.zcard("lookup:delayed:lookup.opay.interactive") == 1
    with service.worker(), service.worker():
        service.results(task_id, 1)
        [at] = service.simulator.stats(reference)["by_reference"][reference]["at"]
        assert at - begun >= LEASE * 4 - 0.01
