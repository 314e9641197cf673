"""How containers end and begin again: stops, wrong configuration, crashes."""

import json
import os
import signal
import time

import pytest

from sandbox.waiting import until
from tests.containers.started import Containers

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

#: The engine kills what has not ended after 30 s, which is 137. 143: the signal came before the program had begun.
IN_ORDER = {0, 143}


def stopped(containers: Containers, container: str) -> int:
    """The exit status of a container that is stopped."""
    containers.docker("stop", "--time", "30", container)
    return int(containers.docker("inspect", "-f", "{{.State.ExitCode}}", container))


@pytest.mark.parametrize(
    ("service", "delay"),
    [
        *(("bulk", delay) for delay in (0.0, 0.15, 0.4, 1.0)),
        *(("flower", delay) for delay in (0.0, 0.4)),
        *(("simulator", 0.0), ("redis", 0.0), ("redis", 0.15)),
    ],
)
def test_a_container_that_has_just_begun_ends_when_asked(containers: Containers, service: str, delay: float) -> None:
    name = containers.container(service)
    containers.docker("stop", name)
    containers.docker("start", name)
    time.sleep(delay)  # the moment at which the signal comes is what is tried
    status = stopped(containers, name)
    containers.docker("start", name)
    assert status in IN_ORDER


def test_a_worker_that_waits_for_redis_ends_when_asked(containers: Containers) -> None:
    # The ports of this service are taken in the namespace that all share.
    given = ("REDIS_URL_FILE=", "REDIS_URL=redis://127.0.0.1:1/0", "METRICS_PORT=0", "HEALTH_PORT=0")
    options = [option for each in given for option in ("-e", each)]
    name = containers.compose("run", "-d", "--no-deps", *options, "bulk").strip().splitlines()[-1]
    until(lambda: "waiting for it" in containers.run("docker", "logs", name).stderr or None, 100)
    assert stopped(containers, name) == 0


def test_a_call_in_flight_ends_before_its_container(containers: Containers) -> None:
    until(lambda: containers.health("bulk") == "healthy" or None, 100)
    lookup = ("lookup", "opay", "OPAY_TOKEN_slow-3~stop", "--lane", "bulk", "--json", "--timeout", "40")
    name = containers.compose("run", "-d", "cli", *lookup).strip().splitlines()[-1]
    asked = (
        "import urllib.request as u;"
        "print(u.urlopen('http://simulator:8090/_simulator/stats', timeout=5).read().decode())"
    )
    until(lambda: "slow-3" in containers.compose("exec", "-T", "flower", "python", "-c", asked) or None, 100)
    assert stopped(containers, containers.container("bulk")) == 0
    containers.docker("wait", name)
    found = json.loads(containers.docker("logs", name))
    containers.docker("start", containers.container("bulk"))
    assert (found["status"], found["attempts"]) == ("found", 1)


def test_a_wrongly_configured_worker_says_so_once_and_waits(containers: Containers) -> None:
    wrong = {"RETRY_BASE_DELAY": "soon"}
    containers.compose("up", "-d", "--no-deps", "--no-build", "bulk", more=wrong)
    name = containers.container("bulk")
    until(lambda: "does nothing" in containers.run("docker", "logs", name).stderr or None, 100)
    found = containers.inspect("bulk")
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert (found["State"]["Status"], found["RestartCount"]) == ("running", 0)
    said = containers.run("docker", "logs", name).stderr
    assert said.count("RETRY_BASE_DELAY") == 1
    assert stopped(containers, name) in IN_ORDER
    containers.compose("up", "-d", "--no-deps", "--no-build", "bulk")


def test_a_killed_worker_is_started_again(containers: Containers) -> None:
    worker = containers.process("bulk", "/python /opt/venv/bin/celery")
    os.kill(worker, signal.SIGKILL)
    until(lambda: containers.inspect("bulk")["RestartCount"] == 1 or None, 100)
    until(lambda: containers.health("bulk") == "healthy" or None, 100)
