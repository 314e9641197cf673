"""Redis with the users of deploy/redis, each with a password of its own."""

from pathlib import Path
from typing import Any, Final, Self

import pytest
import redis

from sandbox.environment import ROOT, clean_environment
from sandbox.processes import Child, start
from sandbox.redis_server import find_server, free_port, version_of
from sandbox.waiting import until

USERS: Final = ("worker", "producer", "consumer", "operator", "flower", "scaler", "metrics")
START: Final = ROOT / "deploy" / "redis" / "start.sh"


class ServerWithUsers:
    """Redis as deploy/redis/start.sh starts it. It keeps nothing: after `restart` it is empty."""

    def __init__(self, folder: Path) -> None:
        if version_of(find_server()) < (7,):
            pytest.skip("the users of deploy/redis take Redis 7 or later, or Valkey")
        self.port = free_port()
        self.users_file = folder / "users.acl"
        passwords = {f"{user.upper()}_PASSWORD": f"{user}-password/+1" for user in USERS}
        (folder / "operator").write_text(passwords.pop("OPERATOR_PASSWORD") + "\n")
        own = {"USERS_FILE": str(self.users_file), "REDIS_SERVER": str(find_server()), "LC_ALL": "C"}
        file = {"OPERATOR_PASSWORD_FILE": str(folder / "operator")}
        self._environment = {**clean_environment(), **passwords, **own, **file}
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self._command: list[str | Path] = ["/bin/sh", START, *options]
        self.child: Child = start(self._command, env=self._environment)
        self.url = self.url_of("worker")

    def __enter__(self) -> Self:
        until(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def restart(self) -> None:
        """Stop it, and start it anew on the same port."""
        self.child.stop()
        self.child = start(self._command, env=self._environment)
        until(self._answers)

    def _answers(self) -> bool | None:
        assert self.child.poll() is None, self.child.output and self.child.output.tail()
        try:
            return bool(self.client("operator").ping()) or None
        except redis.ConnectionError:
            return None

    def url_of(self, user: str, database: int = 0) -> str:
        return f"redis://{user}:{user}-password%2F%2B1@127.0.0.1:{self.port}/{database}"

    def client(self, user: str, database: int = 0) -> Any:
        return redis.Redis.from_url(self.url_of(user, database), protocol=2)
