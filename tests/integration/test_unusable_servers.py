"""Servers that a URL may name and that cannot be used: that is said at once, and not waited for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from cardtoken import AsyncClient, Client
from cardtoken.cli import cardtoken
from cardtoken.errors import RedisUnavailableError
from sandbox.processes import start
from sandbox.redis_server import RedisServer, find_server, free_port
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until

REQUEST = {"opay_token": "OPAY_TOKEN_visa"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    """A cluster of one node that has every slot: each single command would be answered."""
    with RedisServer(extra={"cluster-enabled": "yes"}) as server:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        yield server


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[str]:
    """The URL of a sentinel, as if it were a server."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n")
    child = start([find_server(), config, "--sentinel"], name="sentinel", log=tmp_path / "sentinel.log")
    with redis.Redis(port=port, socket_timeout=1) as client:

        def answers() -> bool | None:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return None

        until(answers)
    yield f"redis://127.0.0.1:{port}"
    child.stop()


def told_to_clients(url: str, said: str) -> None:
    with Client(url, retry_for=600) as client, pytest.raises(RedisUnavailableError, match=said):
        client.enqueue(REQUEST)

    async def main() -> None:
        async with AsyncClient(url, retry_for=600) as client:
            with pytest.raises(RedisUnavailableError, match=said):
                await client.enqueue(REQUEST)

    asyncio.run(main())


@pytest.mark.parametrize("database", ["", "/0", "/1"])
def test_a_cluster_is_told_to_clients_and_nothing_is_pushed(cluster: RedisServer, database: str) -> None:
    told_to_clients(cluster.url.removesuffix("/0") + database, "is a node of a Redis Cluster")
    with redis.Redis.from_url(cluster.url) as client:
        assert client.dbsize() == 0


def test_a_cluster_is_told_by_the_command_line(cluster: RedisServer) -> None:
    for command in (["lookup", "opay", REQUEST["opay_token"]], ["status"]):
        done = CliRunner(env={"REDIS_URL": cluster.url}).invoke(cardtoken, command)
        assert "is a node of a Redis Cluster" in f"{done.exception} {done.output}"


def test_a_worker_ends_at_a_cluster(cluster: RedisServer, simulator: Simulator) -> None:
    worker = WorkerProcess({**Service(cluster, simulator).environment, "REDIS_URL": cluster.url})
    assert worker.child.wait(60) == 78
    assert f"Redis at 127.0.0.1:{cluster.port} is a node of a Redis Cluster" in worker.log
    assert "Sentinel (sentinel://)" in worker.log


@pytest.mark.parametrize("database", ["", "/0", "/1"])
def test_a_sentinel_without_its_scheme_is_told(sentinel: str, database: str) -> None:
    told_to_clients(sentinel + database, "write sentinel:// instead of redis://")
