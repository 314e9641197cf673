"""The whole service on one machine: a real Redis, real providers over HTTP, real worker processes.

The producer here is bare Celery: it knows the contract and nothing of the project.
"""

import json
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import redis
import requests
from celery import Celery

from sandbox.environment import CLIENT, CLIENT_SECRET, MERCHANT, PRIVATE_KEY, ROOT, clean_environment
from sandbox.processes import Child, start, wait_for_line
from sandbox.redis_server import RedisServer
from sandbox.waiting import until

#: The names of remote control and events, for a Celery application other than ``celery -A tasks``.
OPERATOR = {
    "control_exchange": "cardtoken",
    "event_exchange": "cardtoken.events",
    "event_queue_prefix": "cardtoken.events",
}


class Simulator:
    """Both providers, in a process of their own."""

    def __init__(self, *args: str) -> None:
        self.child = start([sys.executable, "-m", "simulator", *args], name="simulator", cwd=ROOT)
        self.url = wait_for_line(self.child, r"listening on (\S+)", 20).group(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def stats(self, *references: str) -> dict[str, Any]:
        """The counters; ``by_reference`` only of those named."""
        query = [("reference", reference) for reference in references or ("",)]
        answer: dict[str, Any] = requests.get(f"{self.url}/_simulator/stats", params=query, timeout=10).json()
        return answer

    def behave(self, **behaviour: object) -> None:
        """Change how the providers behave, as its README says."""
        requests.put(f"{self.url}/_simulator/behaviour", json=behaviour, timeout=10).raise_for_status()

    def accept(self, provider: str, identifier: str, *secrets: str) -> None:
        """Let an account have these secrets and no other."""
        url = f"{self.url}/_simulator/accounts"
        requests.put(url, json={provider: {identifier: secrets}}, timeout=10).raise_for_status()

    def accepted(self, provider: str, identifier: str) -> list[int]:
        """Return how often each secret of an account was accepted, in their order."""
        counts: list[int] = requests.get(f"{self.url}/_simulator/accounts", timeout=10).json()[provider][identifier]
        return counts

    def reset(self) -> None:
        """Counters and behaviour start again."""
        requests.post(f"{self.url}/_simulator/reset", timeout=10).raise_for_status()


class WorkerProcess:
    """A worker process: ``celery -A tasks worker``."""

    def __init__(self, environment: Mapping[str, str], *args: str, level: str = "INFO") -> None:
        self.name = f"w{uuid.uuid4().hex[:8]}@test"
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-l", level, "-n", self.name, *args]
        self.lines: list[str] = []
        self.child: Child = start(command, name="worker", cwd=ROOT, env=environment, on_line=self.lines.append)

    def ready(self, timeout: float = 30) -> Self:
        """Wait until it consumes."""
        wait_for_line(self.child, r" ready\.", timeout)
        return self

    def stop(self, grace: float = 20) -> int:
        """Send SIGTERM and return the exit status."""
        return self.child.stop(grace)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.child.send_signal(signal.SIGSTOP)

    @property
    def log(self) -> str:
        """All that it has written."""
        return "\n".join(self.lines)


class Service:
    """Redis, the providers, and workers between them."""

    def __init__(self, server: RedisServer, simulator: Simulator, **environment: str) -> None:
        self.server = server
        self.simulator = simulator
        # redis-py's types are those of both protocols' replies at once, which is of no use here.
        self.redis: Any = redis.Redis.from_url(server.url)
        self.producer = Celery("a-producer-of-its-own", broker=server.url)
        # What an operator's Celery needs to be heard by the workers, as docs/operations.md says.
        self.producer.conf.update(OPERATOR)
        self.environment = {
            **clean_environment(),
            "REDIS_URL": server.url,
            "OPAY_BASE_URL": simulator.url,
            "OPAY_MERCHANT_ID": MERCHANT,
            "OPAY_PRIVATE_KEY": PRIVATE_KEY,
            "AFTERPAY_BASE_URL": simulator.url,
            "AFTERPAY_CLIENT_ID": CLIENT,
            "AFTERPAY_CLIENT_SECRET": CLIENT_SECRET,
            "RETRY_BASE_DELAY": "0.05",
            "RETRY_MAX_DELAY": "0.3",
            **environment,
        }

    @contextmanager
    def worker(self, *args: str, level: str = "INFO", **environment: str) -> Iterator[WorkerProcess]:
        """A worker that consumes, until the end of the block."""
        worker = WorkerProcess({**self.environment, **environment}, *args, level=level)
        try:
            with self.explained([worker]):
                yield worker.ready()
        finally:
            worker.child.stop()

    @contextmanager
    def explained(self, workers: Sequence[WorkerProcess]) -> Iterator[None]:
        """Let an exception say what these workers wrote last, and what is in Redis."""
        try:
            yield
        except BaseException as error:
            for worker in workers:
                error.add_note("\n".join([f"{worker.name} wrote last:", *worker.lines[-20:]]))
            with suppress(redis.RedisError):
                error.add_note("in Redis:\n" + "\n".join(sorted(map(self._shown, self._keys()))[:100]))
            raise

    def _keys(self) -> list[bytes]:
        return [key for key in self.redis.scan_iter(count=1000) if not key.startswith(b"lookup:fence:")]

    def _shown(self, key: bytes) -> str:
        kind = self.redis.type(key).decode()
        sizes = {"list": self.redis.llen, "zset": self.redis.zcard, "set": self.redis.scard, "stream": self.redis.xlen}
        size = sizes[kind](key) if kind in sizes else self.redis.hgetall(key) if b"circuit" in key else ""
        return f"{key.decode(errors='replace')} {kind} {size}"

    def send(self, provider: str, requests: Sequence[object], lane: str = "interactive", **options: Any) -> str:
        """Send one message as any Celery producer would; return its task id."""
        task_id = options.pop("task_id", None) or str(uuid.uuid4())
        self.producer.send_task(
            f"lookup.{provider}",
            kwargs={"requests": list(requests)},
            queue=f"lookup.{provider}.{lane}",
            task_id=task_id,
            **options,
        )
        return task_id

    def entries(self, stream: str) -> list[dict[str, Any]]:
        """Return the entries of a stream, as text; bytes that are not text stay bytes."""
        return [
            {key.decode(): _text(value) for key, value in fields.items()} for _, fields in self.redis.xrange(stream)
        ]

    def results(self, task_id: str, count: int, reply_to: str = "default", timeout: float = 20) -> list[dict[str, Any]]:
        """The results of a task, in the order of their index, once there are so many of them."""

        def ask() -> list[dict[str, Any]] | None:
            found = [json.loads(entry["result"]) for entry in self.entries(f"token-records:{reply_to}")]
            found = [result for result in found if result["task_id"] == task_id]
            return found if len(found) >= count else None

        return sorted(until(ask, timeout), key=lambda result: str(result["lookup_id"]))

    def quarantined(self, raw: bytes, timeout: float = 20) -> dict[str, Any]:
        """The quarantine's entry for exactly these bytes, once it is there."""

        def ask() -> dict[str, Any] | None:
            for _, fields in self.redis.xrange("lookup:quarantine"):
                if fields[b"raw"] == raw:
                    return {key.decode(): _text(value) for key, value in fields.items()}
            return None

        return until(ask, timeout)


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
