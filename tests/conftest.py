"""Servers that tests share. Each module that changes how one behaves starts its own instead."""

import signal
import threading
from collections.abc import Iterator

import pytest

from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator

if threading.current_thread() is threading.main_thread():
    # Where the tests run in the background, these are ignored, and what they start would ignore them too.
    for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(_number) is signal.SIG_IGN:
            signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis-compatible server, empty at the start."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """Both providers."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, simulator: Simulator) -> Iterator[Service]:
    """The service with one worker for all queues, on an empty database."""
    service = Service(redis_server, simulator)
    service.redis.flushall()
    with service.worker():
        yield service
