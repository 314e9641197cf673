"""Each module has a service of its own: commands change what is in Redis."""

from collections.abc import Iterator

import pytest

from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from tests.cli.terminal import environment


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer(appendonly=True) as server:
        service = Service(server, simulator, RETRY_MAX_ATTEMPTS="3")
        with service.worker():
            yield service


@pytest.fixture
def env(service: Service) -> dict[str, str]:
    return environment(service.server.url)
