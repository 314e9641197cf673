"""An error of this service's own, outside of what is caught for single lookups, loses no message."""

import re
import sys

import pytest

from sandbox.environment import ROOT
from sandbox.processes import start, wait_for_line
from sandbox.service import Service

#: A worker that fails at a place of our own code where nothing should ever fail.
BROKEN = """
import sys
from {module} import {name}

def fail(*_args, **_kwargs):
    raise {error}("about OPAY_TOKEN_canary")

{broken} = fail
sys.argv = ["celery", "-A", "tasks", "worker", "-l", "INFO"]
from celery.__main__ import main
main()
"""


#: A worker whose first attempt to defer a retry fails; the second one has the same claim id and entry.
STUMBLING = """
import sys
from redis import ConnectionError
from tasks.broker.claims import Claims

defer, stumbled = Claims.defer, []

def once(*args):
    if not stumbled:
        stumbled.append(True)
        raise ConnectionError
    defer(*args)

Claims.defer = once
sys.argv = ["celery", "-A", "tasks", "worker", "-l", "INFO"]
from celery.__main__ import main
main()
"""


def test_a_retry_that_has_to_be_put_again_is_still_a_retry(service: Service) -> None:
    worker = start([sys.executable, "-c", STUMBLING], name="worker", cwd=ROOT, env=service.environment)
    try:
        task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_timeout-1~put-again"}])
        (result,) = service.results(task_id, 1)
        assert (result["status"], result["attempts"]) == ("found", 2)
        assert service.entries("lookup:quarantine") == []
    finally:
        assert worker.stop() == 0


@pytest.mark.parametrize(
    ("module", "broken", "error", "place"),
    [
        ("tasks.lookups.reader", "RequestReader.read", "ValueError", "processor"),
        ("tasks.processor", "MessageProcessor.process", "MemoryError", "task"),
        ("tasks.stores.results", "ResultStore.publish", "TypeError", "processor"),
    ],
)
def test_a_message_that_cannot_be_run_goes_to_quarantine(
    service: Service, module: str, broken: str, error: str, place: str
) -> None:
    code = BROKEN.format(module=module, name=broken.partition(".")[0], broken=broken, error=error)
    worker = start([sys.executable, "-c", code], name="worker", cwd=ROOT, env=service.environment)
    try:
        wait_for_line(worker, r" ready\.", 30)
        service.send("opay", [{"opay_token": "OPAY_TOKEN_visa~broken"}])
        [raw] = service.redis.lrange("lookup.opay.interactive", 0, -1) or [None]
        wait_for_line(worker, "goes to quarantine", 10)
        [kept] = service.entries("lookup:quarantine")
        assert kept["reason"] == "an unexpected error in this service"
        assert raw is None or kept["raw"] == raw.decode()
        assert not service.redis.keys("lookup:claim:*")
        assert not service.redis.zcard("lookup:leases")
        assert worker.output is not None
        assert "canary" not in worker.output.tail(1000)
        assert re.search(rf"ended in {error} at tasks/{place}\.py:\d+\b", worker.output.tail(1000))
    finally:
        assert worker.stop() == 0
