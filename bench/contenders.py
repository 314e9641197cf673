"""Who is measured: how each is started, how it is given work, and what it promises."""

import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.machine import Stage
from sandbox.environment import ROOT

#: Where `make bench` puts the environments of the others.
_PEERS: Final = ROOT / ".venv-peers/bin"
_ARQ: Final = ROOT / ".venv-peers-arq/bin"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the job. ``count``: lookups in one measurement; ``promises``: what it keeps beside speed."""

    name: str
    command: Callable[[int], list[str]]
    enqueue: Callable[[Stage, int], None]
    count: int
    concurrency: int
    promises: str
    environment: tuple[tuple[str, str], ...] = ()
    python: Path = Path(sys.executable)

    @property
    def there(self) -> bool:
        """Whether its environment was made."""
        return self.python.exists()


def ours(concurrency: int, level: str = "WARNING") -> list[str]:
    """A worker of this project for OPay's bulk queue."""
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-l", level, "-Q", "lookup.opay.bulk"]
    return [*command, "-c", str(concurrency)]


def _push(each: int) -> Callable[[Stage, int], None]:
    def pushed(stage: Stage, count: int) -> None:
        from datetime import UTC, datetime

        from cardtoken.contract import Lane
        from cardtoken.message import message_of, prepared

        now = datetime.now(UTC)
        pipeline = stage.redis.pipeline(transaction=False)
        for first in range(0, count, each):
            some = range(first, min(count, first + each))
            requests = [prepared({"opay_token": f"OPAY_TOKEN_visa~bench-{number}"}, now) for number in some]
            pipeline.lpush("lookup.opay.bulk", message_of(requests, Lane.BULK, str(uuid.uuid4())).entry)
        pipeline.execute()

    return pushed


def _peer(kind: str, python: Path) -> Callable[[Stage, int], None]:
    def pushed(stage: Stage, count: int) -> None:
        command = [str(python), "-m", "bench.peers.enqueue", kind, str(count)]
        subprocess.run(command, cwd=ROOT, env=stage.environment, check=True, timeout=120, capture_output=True)  # noqa: S603

    return pushed


def _celery(pool: str) -> Callable[[int], list[str]]:
    return lambda concurrency: [
        str(_PEERS / "celery"), "-A", "bench.peers.celery_app", "worker", "-l", "WARNING", "-P", pool, "-c",
        str(concurrency), "-Q", "peers", "--without-mingle", "--without-gossip",
    ]  # fmt: skip


def _taskiq(concurrency: int) -> list[str]:
    return [str(_PEERS / "taskiq"), "worker", "bench.peers.taskiq_app:broker", "--workers", "1",
            "--max-async-tasks", str(concurrency), "--log-level", "WARNING"]  # fmt: skip


_P = _PEERS / "python"
_OURS = (("PROVIDER_CONCURRENCY", "256"), ("LOG_FORMAT", "console"))
_MORE = "each result once, nothing lost in a crash, validated, retried"

CONTENDERS: Final = (
    Contender("this project, lists of 100", ours, _push(100), 12_000, 64, _MORE, _OURS),
    Contender("this project, single messages", ours, _push(1), 6_000, 160, _MORE, _OURS),
    Contender("Celery, threads", _celery("threads"), _peer("celery", _P), 3_000, 128, "late acknowledgement", (), _P),
    Contender("Celery, prefork", _celery("prefork"), _peer("celery", _P), 150, 2, "late acknowledgement", (), _P),
    Contender(
        "taskiq, list broker", _taskiq, _peer("taskiq", _P), 6_000, 256, "none: a crash loses what was taken",
        (("BENCH_BROKER", "list"),), _P,
    ),
    Contender(
        "taskiq, stream broker", _taskiq, _peer("taskiq", _P), 6_000, 256, "acknowledgement",
        (("BENCH_BROKER", "stream"),), _P,
    ),
    Contender(
        "arq", lambda _: [str(_ARQ / "arq"), "bench.peers.arq_app.WorkerSettings"], _peer("arq", _ARQ / "python"),
        3_000, 160, "acknowledgement", (), _ARQ / "python",
    ),
    Contender(
        "dramatiq", lambda n: [str(_PEERS / "dramatiq"), "bench.peers.dramatiq_app", "--processes", "1",
                               "--threads", str(n)],
        _peer("dramatiq", _P), 4_000, 160, "acknowledgement", (), _P,
    ),
)  # fmt: skip
