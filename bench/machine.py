"""Processes on the cores that they are to have, and what they use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from sandbox.environment import MERCHANT, PRIVATE_KEY, ROOT, clean_environment
from sandbox.processes import Child, start
from sandbox.redis_server import RedisServer
from sandbox.service import Simulator

_CORES: Final = sorted(os.sched_getaffinity(0))
#: What is measured has a core of its own; Redis, the provider and the producer share the other.
WORKER_CORE: Final = {_CORES[0]}
OTHER_CORE: Final = {_CORES[-1]}


def pin(pid: int, cores: set[int]) -> None:
    """Keep a process, its threads and its children to these cores."""
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores)


@dataclass
class Stage:
    """Redis and a provider with a latency, on their core."""

    server: RedisServer
    simulator: Simulator
    redis: Any
    environment: dict[str, str] = field(repr=False)

    def clear(self) -> None:
        """As at the start."""
        self.redis.flushall()
        self.simulator.reset()

    def start(self, command: list[str], **environment: str) -> Child:
        """A program on the core of its own, from its first instruction."""
        env = {**self.environment, **environment}
        pinned = ["taskset", "-c", ",".join(map(str, WORKER_CORE)), *command]
        return start(pinned, name=Path(command[0]).name, cwd=ROOT, env=env)


@contextmanager
def stage(latency: float, **environment: str) -> Iterator[Stage]:
    """Set it up, and take it down."""
    with RedisServer() as server, Simulator("--latency", str(latency)) as simulator:
        pin(server.pid, OTHER_CORE)
        pin(simulator.child.pid, OTHER_CORE)
        given = {
            **clean_environment(),
            "REDIS_URL": server.url,
            "OPAY_BASE_URL": simulator.url,
            "OPAY_MERCHANT_ID": MERCHANT,
            "OPAY_PRIVATE_KEY": PRIVATE_KEY,
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        yield Stage(server, simulator, redis.Redis.from_url(server.url), given)


def cpu_seconds(pid: int) -> float:
    """CPU that a process and its children have used."""
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system
    return total
