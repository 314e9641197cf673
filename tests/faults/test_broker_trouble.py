"""After any trouble of Redis the same worker process goes on by itself, and says so a few times and not per second."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sandbox.ledger import Ledger
from sandbox.service import Service, WorkerProcess
from sandbox.waiting import until

#: Lines that a worker may write about one outage.
_MANY = 25
#: And how often one of them.
_AGAIN = 3


@contextmanager
def outage(service: Service, ledger: Ledger, worker: WorkerProcess) -> Iterator[None]:
    """Work before, during and after; afterwards the same process has served everything once, and soon."""
    ledger.send(["OPAY_TOKEN_visa~before"])
    ledger.settled()
    # What is asked now is answered while Redis is in trouble; half of it has to be tried again, so put back meanwhile.
    service.simulator.behave(latency=1.0)
    for number in range(5):
        ledger.send([f"OPAY_TOKEN_{kind}~during-{number}" for kind in ("visa", "timeout-1", "timeout-2")])
        ledger.send([f"OPAY_TOKEN_timeout-1~during-{number}-alone"], lane="bulk")
    until(lambda: True if service.simulator.stats()["in_flight"] >= 5 else None)
    said, pid = len(worker.lines), worker.child.pid
    yield
    service.simulator.behave(latency=0)
    ledger.send(["OPAY_TOKEN_visa~after"])
    ledger.settled()
    assert worker.child.poll() is None
    assert worker.child.pid == pid
    trouble = [line for line in worker.lines[said:] if '"logger": "lookup"' not in line]
    assert len(trouble) < _MANY, "\n".join(trouble)
    again = Counter(json.loads(line)["message"] for line in trouble if line.startswith("{"))
    assert all(count <= _AGAIN for count in again.values()), "\n".join(trouble)


def restarted(service: Service) -> None:
    service.server.kill()
    service.server.start()


def away_for_some_seconds(service: Service) -> None:
    service.server.kill()
    time.sleep(4)  # what passes while it is away is the point of it
    service.server.start()


def disconnected(service: Service) -> None:
    for client in service.redis.client_list():
        if client["name"] or client["cmd"] in {"blmove", "psubscribe", "evalsha"}:
            service.redis.client_kill_filter(_id=client["id"])


def read_only(service: Service) -> None:
    service.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    time.sleep(2)
    service.redis.execute_command("REPLICAOF", "NO", "ONE")


def out_of_memory(service: Service) -> None:
    service.redis.config_set("maxmemory", 1024)
    time.sleep(2)
    service.redis.config_set("maxmemory", 0)


def cut_off_from_a_replica(service: Service) -> None:
    """As behind Sentinel: connections are lost, and the server that is found has not become the primary yet."""
    service.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    disconnected(service)
    time.sleep(4)
    service.redis.execute_command("REPLICAOF", "NO", "ONE")


def cut_off_from_a_primary_without_replicas(service: Service) -> None:
    service.redis.config_set("min-replicas-to-write", 1)
    disconnected(service)
    time.sleep(4)
    service.redis.config_set("min-replicas-to-write", 0)


def frozen(service: Service) -> None:
    service.server.pause()
    time.sleep(3)
    service.server.resume()


TROUBLES = [
    restarted,
    away_for_some_seconds,
    disconnected,
    read_only,
    out_of_memory,
    cut_off_from_a_replica,
    cut_off_from_a_primary_without_replicas,
    frozen,
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_a_worker_outlives_the_trouble_of_its_broker(service: Service, trouble: Callable[[Service], None]) -> None:
    ledger = Ledger(service)
    with service.worker(LEASE_SECONDS="10") as worker, outage(service, ledger, worker):
        trouble(service)
