"""Connections to Redis that go silent: no end, no reset, no answer; new ones work. As after a lost NAT table."""

from sandbox.faulty_proxy import FaultyProxy
from sandbox.ledger import Ledger
from sandbox.service import Service
from sandbox.waiting import until

#: Seconds within which docs/reliability.md promises that work goes on.
PROMISED = 20


def test_work_goes_on_after_every_connection_went_silent_and_a_stop_ends(service: Service) -> None:
    assert service.server.port is not None
    ledger = Ledger(service)
    with FaultyProxy(service.server.port) as proxy, service.worker(REDIS_URL=proxy.url) as worker:
        ledger.send(["OPAY_TOKEN_visa~before", "OPAY_TOKEN_timeout-1~before"])
        ledger.settled()
        service.simulator.behave(latency=0.5)
        for number in range(6):
            ledger.send([f"OPAY_TOKEN_visa~during-{number}", f"OPAY_TOKEN_timeout-1~during-{number}"])
            ledger.send([f"OPAY_TOKEN_visa~bulk-{number}"], lane="bulk")
        until(lambda: True if service.simulator.stats()["in_flight"] >= 5 else None)
        assert proxy.silence()
        ledger.send(["OPAY_TOKEN_visa~after"])
        until(lambda: True if len(ledger.found()) == 21 else None, PROMISED)
        ledger.settled()
        assert worker.child.poll() is None
        assert proxy.silence()
        assert worker.stop(PROMISED) == 0, "it is killed after that"
