"""A host where workers run: settings in .env, workers that are started again when they end, a shell."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sandbox.environment import PRIVATE_KEY, ROOT, clean_environment
from sandbox.processes import Child, start, wait_for_line
from sandbox.waiting import until

#: Seconds after which a worker that does not start has failed.
PATIENCE: Final = 120.0


class Worker:
    """A worker that is started again when it ends in order, as systemd, compose and Kubernetes do."""

    def __init__(self, host: "Host", words: list[str], port: int, **environment: str) -> None:
        self._host = host
        self._words = words
        self._environment = {**environment, "METRICS_PORT": str(port)}
        self._over = False
        self._run()
        threading.Thread(target=self._look_after, daemon=True).start()

    def _run(self) -> None:
        environment = {**self._host.environment, **self._environment}
        self.child: Child = start(self._words, name="worker", cwd=self._host.folder, env=environment)

    def _look_after(self) -> None:
        while not self._over:
            if self.child.poll() == 0 and not self._over:
                self._run()
            time.sleep(0.05)

    def ready(self) -> "Worker":
        """Wait until it consumes."""
        wait_for_line(self.child, r" ready\.", PATIENCE)
        return self

    def give_up(self) -> None:
        """Do not start it again."""
        self._over = True

    def end(self) -> None:
        """Stop it in order, for good."""
        self.give_up()
        self.child.stop(20)

    def kill(self) -> None:
        """SIGKILL; it is not started again."""
        self.give_up()
        self.child.kill()


@contextmanager
def replaced(workers: Sequence[Worker]) -> Iterator[None]:
    """Wait, at the end of the block, until others consume in their place."""
    before = [worker.child for worker in workers]
    yield
    for worker, child in zip(workers, before, strict=True):
        until(lambda: True if worker.child is not child else None, PATIENCE)  # noqa: B023 - called at once
        worker.ready()


class Host:
    """Where workers run: a folder with their .env, and a shell in it."""

    def __init__(
        self, next_port: Callable[[], int], keep: Callable[[Worker], None], folder: Path, settings: dict[str, str]
    ) -> None:
        self._next_port = next_port
        self._keep = keep
        self.folder = folder
        folder.mkdir()
        self.key, self.accounts = folder / "opay.key", folder / "accounts.json"
        self.key.write_text(PRIVATE_KEY)
        self.accounts.write_text("{}")
        files = {"OPAY_PRIVATE_KEY_FILE": str(self.key), "PROVIDER_ACCOUNTS_FILE": str(self.accounts)}
        self._settings = settings
        self.set(**files)
        path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
        outer = {name: value for name, value in clean_environment().items() if name not in self._settings}
        self.environment = {**outer, **files, "PATH": path, "PYTHONPATH": str(ROOT)}

    def set(self, **settings: str) -> None:
        """Change .env; a worker that starts later has it."""
        self._settings = {**self._settings, **settings}
        (self.folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in self._settings.items()))

    def worker(self, name: str, queues: str, *options: str, **environment: str) -> Worker:
        """Start a worker."""
        words = ["celery", "-A", "tasks", "worker", "-l", "INFO", "-n", f"{name}@%h", "-Q", queues, *options]
        return self.start(words, **environment)

    def start(self, words: list[str], **environment: str) -> Worker:
        """Start a program that is a worker."""
        worker = Worker(self, words, self._next_port(), **environment)
        self._keep(worker)
        return worker

    def stand_in(self, program: str) -> Path:
        """Put a program onto PATH that writes what it is told to a file; return the file."""
        file = self.folder / f"{program}.told"
        (self.folder / program).write_text(f'#!/bin/sh\necho "$*" > "{file}"\n')
        (self.folder / program).chmod(0o755)
        return file
