"""Flower, started as an operator starts it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import requests

from sandbox.environment import ROOT
from sandbox.processes import Child, start
from sandbox.redis_server import free_port
from sandbox.waiting import until

USER, PASSWORD = "operator", "a-password-for-tests"


class Flower:
    """``celery -A tasks flower``, with a login."""

    def __init__(self, environment: Mapping[str, str], state: Path, *args: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        env = {**environment, "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}", "FLOWER_DB": str(state / "flower")}
        self.child: Child = start(
            [sys.executable, "-m", "celery", "-A", "tasks", "flower", f"--port={self.port}", *args],
            name="flower",
            cwd=ROOT,
            env=env,
            on_line=self.lines.append,
        )

    def __enter__(self) -> Self:
        def answers() -> bool | None:
            assert self.child.poll() is None, "\n".join(self.lines)
            try:
                return requests.get(f"{self.url}/healthcheck", timeout=2).ok or None
            except requests.ConnectionError:
                return None

        until(answers, 30, 0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def task(self, task_id: str) -> dict[str, Any]:
        """What it knows of a task; nothing where it has not heard of it."""
        answer = self.get(f"/api/task/info/{task_id}")
        found: dict[str, Any] = answer.json() if answer.ok else {}
        return found

    def get(self, path: str) -> requests.Response:
        """Ask with the login."""
        return requests.get(f"{self.url}{path}", auth=(USER, PASSWORD), timeout=20)
