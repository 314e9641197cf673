"""Several hosts, in the short form of the runs about them."""

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from sandbox.waiting import until
from soak.__main__ import RUNS
from soak.hosts import Host
from soak.record import Plan
from soak.stock import UnavailableError

pytestmark = pytest.mark.tools


@pytest.mark.parametrize(("name", "scale"), [("failover", 0.2), ("hung-primary", 0.2), ("cut-off", 0.1)])
def test_hosts_come_and_go(name: str, scale: float) -> None:
    try:
        record = RUNS[name](Plan(scale=scale, seed=1, progress=lambda *_: None))
    except UnavailableError as error:  # only root has network namespaces
        pytest.skip(str(error))
    assert record.passed, f"{record.goal}: {dict(record.figures)}"


def test_hosts_of_two_runs_do_not_meet_and_leave_nothing() -> None:
    def addresses() -> str:
        return subprocess.run(["ip", "-4", "address"], capture_output=True, text=True, check=True).stdout

    try:
        with ExitStack() as stack:
            hosts = [Host(stack), Host(stack)]
            assert len({hosts[0].redis, hosts[0].provider, hosts[1].redis, hosts[1].provider}) == 4
            for host in hosts:
                assert host.redis in addresses()
                with socket.create_server((host.redis, 0)) as server:
                    address = (host.redis, server.getsockname()[1])
                    reach = f"import socket; socket.create_connection({address}, 5)"
                    subprocess.run([*host.enter, sys.executable, "-c", reach], check=True)
    except UnavailableError as error:
        pytest.skip(str(error))
    until(lambda: True if not any(host.redis in addresses() for host in hosts) else None, 10)
