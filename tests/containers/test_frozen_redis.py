"""Redis hangs: the health checks come to an end within their limits, and Flower is not well."""

import os
import signal
from collections.abc import Iterator

import pytest

from sandbox.waiting import until
from tests.containers.started import Containers

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]


@pytest.fixture
def frozen(containers: Containers) -> Iterator[None]:
    for service in ("redis", "flower", "interactive"):
        until(lambda service=service: containers.health(service) == "healthy" or None, 100)  # type: ignore[misc]
    number = containers.process("redis", "redis-server *:6379")
    os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(number, signal.SIGCONT)


@pytest.mark.usefixtures("frozen")
def test_health_checks_answer_in_time_and_flower_is_unhealthy(containers: Containers) -> None:
    until(lambda: containers.health("flower") == "unhealthy" or None, 100)
    until(lambda: containers.inspect("interactive")["State"]["Health"]["FailingStreak"] > 0 or None, 100)
    for service in ("redis", "interactive", "flower"):
        log = containers.inspect(service)["State"]["Health"]["Log"]
        last = log[-1]
        # -1 is the engine's, for a check that it had to end.
        assert last["ExitCode"] not in {0, -1}, (service, last)
        assert "exceeded timeout" not in last["Output"], (service, last)
