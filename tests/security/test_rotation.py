"""A provider's key is changed by a rolling restart, while lookups go on: none is lost, none refused."""

import json
import threading

from sandbox.environment import MERCHANT, PRIVATE_KEY
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until

#: The simulator's second merchant.
NEW = {"OPAY_MERCHANT_ID": "256612345678902", "OPAY_PRIVATE_KEY": "OPAYPRV16160617080051.720491836502774"}


def test_workers_take_over_with_the_new_key(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator, OPAY_MERCHANT_ID=MERCHANT, OPAY_PRIVATE_KEY=PRIVATE_KEY)
        stop = threading.Event()
        sent: list[str] = []

        def ask() -> None:
            while not stop.wait(0.02):
                token = f"OPAY_TOKEN_{'timeout-1' if len(sent) % 5 == 0 else 'visa'}~rotation-{len(sent)}"
                sent.append(service.send("opay", [{"opay_token": token}]))

        asking = threading.Thread(target=ask, daemon=True)
        refused = simulator.stats()["refused"]
        with service.worker() as first, service.worker() as second:
            asking.start()
            until(lambda: True if len(sent) > 30 else None)
            for old in (first, second):
                # Stopped, and started with what the file or the environment says by then.
                assert old.stop() == 0
                service.environment |= NEW
                with service.worker() as new:
                    until(lambda: True if any('"found"' in line for line in new.lines) else None)
                    assert new.stop() == 0
            with service.worker():
                stop.set()
                asking.join(10)
                until(lambda: True if len(service.entries("token-records:default")) >= len(sent) else None, pause=0.2)
                results = [json.loads(entry["result"]) for entry in service.entries("token-records:default")]
        assert sorted(result["task_id"] for result in results) == sorted(sent)
        assert {result["status"] for result in results} == {"found"}
        assert simulator.stats()["refused"] == refused
