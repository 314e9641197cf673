"""Sentinels that are down, silent or unknown cost next to nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from cardtoken import bounded, bounded_async, sentinel
from cardtoken.connection import Endpoint
from sandbox.faulty_proxy import Fault, FaultyProxy
from sandbox.processes import start
from sandbox.redis_server import RedisServer, find_server, free_port
from sandbox.waiting import until


@contextmanager
def sentinel_of(primary: int, folder: Path) -> Iterator[int]:
    """The port of a sentinel that knows the server at that port as ``mymaster``."""
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor mymaster 127.0.0.1 {primary} 1\n")
    child = start([find_server(), config, "--sentinel"], name="sentinel", log=folder / "sentinel.log")
    with redis.Redis(port=port, socket_timeout=1) as client:

        def knows() -> object:
            try:
                return client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
            except redis.RedisError:
                return None

        until(knows)
    try:
        yield port
    finally:
        child.stop()


@pytest.fixture
def knowing(redis_server: RedisServer, tmp_path: Path) -> Iterator[int]:
    assert redis_server.port is not None
    with sentinel_of(redis_server.port, tmp_path) as port:
        yield port


@pytest.fixture
def silent(knowing: int) -> Iterator[FaultyProxy]:
    with FaultyProxy(knowing) as proxy:
        proxy.fault_of_new = Fault.SILENT
        yield proxy


def test_the_sentinel_that_knows_is_found_behind_any_that_do_not_answer(
    knowing: int, silent: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long that pytest ends a test that waits for one of them.
    monkeypatch.setattr(sentinel, "ASK_TIMEOUT", 600.0)
    monkeypatch.setattr(bounded, "CONNECT_TIMEOUT", 600.0)
    ports = [silent.port, 1, silent.port, knowing]
    url = ";".join(["sentinel://not-a-host.invalid:26379", *(f"sentinel://127.0.0.1:{port}" for port in ports)])
    endpoint = Endpoint(url, sentinel_master="mymaster")
    with closing(endpoint.connect()) as client:
        assert client.ping()
        pool: Any = client.connection_pool
        assert pool.sentinel_manager.sentinels[0].connection_pool.connection_kwargs["port"] == knowing

    async def main() -> None:
        client = endpoint.connect_async()
        assert await client.ping()
        await client.aclose()

    asyncio.run(main())


def test_where_no_sentinel_names_a_primary_that_is_said_in_time(
    knowing: int, silent: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel, "ALL_TIMEOUT", 0.5)
    monkeypatch.setattr(bounded_async, "ALL_TIMEOUT", 0.5)
    monkeypatch.setattr(sentinel, "ASK_TIMEOUT", 600.0)
    monkeypatch.setattr(bounded, "CONNECT_TIMEOUT", 600.0)
    url = ";".join(f"sentinel://127.0.0.1:{port}" for port in (1, silent.port, knowing))
    endpoint = Endpoint(url, sentinel_master="another")
    said = r"no sentinel names a primary 'another': .*127\.0\.0\.1:1 .*knows no such name.*1 did not answer"
    with closing(endpoint.connect()) as client, pytest.raises(redis.ConnectionError, match=said):
        client.ping()

    async def main() -> None:
        client = endpoint.connect_async()
        with pytest.raises(redis.ConnectionError, match=said):
            await client.ping()
        await client.aclose()

    asyncio.run(main())


def test_an_answer_that_comes_too_late_is_not_read_by_the_next_command(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """redis-py keeps such a connection where it was found by Sentinel."""
    assert redis_server.port is not None
    with FaultyProxy(redis_server.port) as proxy, sentinel_of(proxy.port, tmp_path) as port:
        endpoint = Endpoint(f"sentinel://127.0.0.1:{port}", sentinel_master="mymaster", socket_timeout=0.3)
        with closing(endpoint.connect()) as client:
            pool: Any = client.connection_pool
            connection = pool.get_connection()
            proxy.delay = 0.5
            connection.send_command("ECHO", "first")
            with pytest.raises(redis.TimeoutError):
                connection.read_response()
            proxy.delay = 0
            connection.send_command("ECHO", "second")
            assert connection.read_response() == b"second"
            pool.release(connection)
