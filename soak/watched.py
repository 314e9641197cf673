"""The service as its operators have it: Redis' users, hosts, producers at work, Prometheus, and the runbook."""

import hashlib
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sandbox.environment import ROOT
from sandbox.processes import start
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator
from soak import runbook
from soak.host import Host, Worker
from soak.prometheus import Labels, Prometheus
from soak.watch import Watch

#: More than all that one run starts.
_PORTS: Final = 24
#: Seconds between two messages of a stream.
_EVERY: Final = 0.2
#: Exit statuses of a command; 3: it has found nothing left to do.
_DONE: Final = (0, 3)


@dataclass
class Stream:
    """What producers ask for, steadily: so many lookups of a reference, of each in turn, five times a second."""

    references: Sequence[str] = ("visa",)
    #: Seconds since they were asked for.
    age: float = 0
    lookups: int = 2
    _turn: int = 0

    def next(self) -> str:
        """Return the reference whose turn it is."""
        self._turn += 1
        return self.references[self._turn % len(self.references)]


class Watched:
    """All of it, until the end of ``stack``. ``factor``: how much faster Prometheus' time passes."""

    def __init__(self, stack: ExitStack, folder: Path, factor: float) -> None:
        self._folder = folder
        users = folder / "users.acl"
        users.write_text(_users())
        self.server = stack.enter_context(RedisServer(appendonly=True, extra={"aclfile": f'"{users}"'}))
        self.simulator = stack.enter_context(Simulator("--latency", "0.02"))
        self.service = Service(self.server, self.simulator)
        self._stack = stack
        self._ports = [free_port() for _ in range(_PORTS)]
        self._port = iter(self._ports)
        self._settings = {
            name: value
            for name, value in self.service.environment.items()
            if name.startswith(("OPAY_", "AFTERPAY_", "RETRY_")) and name != "OPAY_PRIVATE_KEY"
        } | {"REDIS_URL": self.url("worker"), "LEASE_SECONDS": "2", "RETRY_MAX_ATTEMPTS": "2"}
        self._operator = self.host("operator")
        self._operator.environment |= {"REDIS_URL": self.url("operator"), "REDIS_ADMIN_URL": self.server.url}
        self.commands = runbook.commands()
        self.prometheus = Prometheus(stack, folder / "prometheus", self._ports, factor)
        self.watch = Watch(stack, self.prometheus)
        self.streams: dict[tuple[str, str], Stream] = {}
        self.workers: list[Worker] = []
        self._quiet = threading.Event()
        stack.callback(self._quiet.set)
        threading.Thread(target=self._ask, daemon=True).start()

    def url(self, user: str) -> str:
        """Return the address of Redis for a user of deploy/redis."""
        return self.server.url.replace("redis://", f"redis://{user}:{user}@")

    def host(self, name: str) -> Host:
        """Return a host of its own."""
        return Host(self.next_port, self.keep, self._folder / name, self._settings)

    def next_port(self) -> int:
        """Return a port that Prometheus asks and nothing has listened on yet."""
        return next(self._port)

    def keep(self, worker: Worker) -> None:
        """End it with the rest."""
        self.workers.append(worker)
        self._stack.callback(worker.kill)

    def cure(self, *fired: Labels, host: Host | None = None, **values: str) -> list[Worker]:
        """Type what the runbook says of each, while all of them fire; return the workers started on the host."""
        self.watch.still_fires(*fired)
        workers = []
        for each in fired:
            self.watch.cured(each)
            words = {**{name.upper(): value for name, value in each.items()}, **values}
            typed = [self._typed(runbook.filled(line, words), host) for line in self.commands[each["alertname"]]]
            workers += [worker for worker in typed if worker is not None]
        for worker in workers:
            worker.ready()
        return workers

    def _typed(self, command: str, host: Host | None) -> Worker | None:
        words = shlex.split(command)
        if words[:4] == ["celery", "-A", "tasks", "worker"]:
            assert host is not None
            return host.start(words)
        if words[0] == "redis-server":
            child = start(words, name="redis", cwd=self.server.folder, env={**os.environ, "LC_ALL": "C"})
            self._stack.callback(child.stop)
            return None
        where = host if host is not None and words[0] in {"cat", "chronyc", "kill"} else self._operator
        done = subprocess.run(
            ["bash", "-uc", command], env=where.environment, cwd=where.folder,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in _DONE, (command, done.returncode, done.stdout, done.stderr)
        assert "Error" not in done.stderr, (command, done.stderr)
        return None

    def operator_types(self, command: str) -> None:
        """Run one command in the operator's shell."""
        self._typed(command, None)

    def send(self, provider: str, lane: str, stream: Stream, queue: str | None = None) -> None:
        """Ask for what a stream asks for, once."""
        name = {"opay": "opay_token", "afterpay": "original_request_id"}[provider]
        prefix = {"opay": "OPAY_TOKEN_", "afterpay": ""}[provider]
        at = datetime.now(UTC) - timedelta(seconds=stream.age)
        request = {name: f"{prefix}{stream.next()}", "requested_at": at.isoformat()}
        self.service.producer.send_task(
            f"lookup.{provider}",
            kwargs={"requests": [request] * stream.lookups},
            queue=queue or f"lookup.{provider}.{lane}",
        )

    def _ask(self) -> None:
        while not self._quiet.wait(_EVERY):
            for (provider, lane), stream in list(self.streams.items()):
                try:
                    self.send(provider, lane, stream)
                except Exception:  # noqa: BLE001, S112 - Redis is away, as it has to be now and then
                    continue


def _users() -> str:
    """Return the users of deploy/redis, each with its name for a password, and an administrator."""
    text = (ROOT / "deploy" / "redis" / "users.acl").read_text(encoding="utf-8").splitlines()

    def hashed(found: re.Match[str]) -> str:
        return "#" + hashlib.sha256(found[1].lower().encode()).hexdigest()

    users = [re.sub(r"\$\{(\w+)_PASSWORD\}", hashed, line) for line in text if not line.startswith("user default")]
    return "\n".join(["user default on nopass ~* &* +@all", *users]) + "\n"
