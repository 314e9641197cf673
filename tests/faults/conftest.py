"""Each fault test has a Redis of its own, kept in an append-only file, and short leases."""

from collections.abc import Iterator

import pytest

from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator

LEASE = 1.5


@pytest.fixture
def service(simulator: Simulator) -> Iterator[Service]:
    """A service with no worker yet."""
    with RedisServer(appendonly=True, appendfsync="always") as server:
        yield Service(server, simulator, LEASE_SECONDS=str(LEASE))
