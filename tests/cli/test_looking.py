"""What looks does not write: Redis is byte for byte the same after every command that shows something."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from cardtoken import status
from cardtoken.circuits import hold_open
from cardtoken.cli import cardtoken
from cardtoken.presence import LAST_REPORTS, WORKERS
from sandbox.redis_server import RedisServer

ERROR = {"category": "unavailable", "code": "90", "message": "system error", "http_status": 200, "retryable": True}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RedisServer) -> Iterator[Any]:
    """A server on which something of each kind is kept, and workers have died."""
    with redis.Redis.from_url(server.url) as client:
        client.sadd(WORKERS, "died", "died-too")
        report = {"at": time.time() - 60, "name": "bulk@one", "host": "one", "queues": ["lookup.opay.bulk"]}
        client.hset(LAST_REPORTS, "died", json.dumps(report))
        client.lpush("lookup.opay.bulk", b"an entry")
        client.zadd("lookup:leases", {"claim": 1})
        result = {"lookup_id": "a", "task_id": "t", "provider": "opay", "status": "failed", "error": ERROR}
        letter = {"lookup_id": "a", "task_id": "t", "provider": "opay", "account": "default", "lane": "bulk",
                  "category": "unavailable", "code": "90", "request": "{}", "result": json.dumps(result)}  # fmt: skip
        client.xadd("lookup:dead-letters", letter, id="1-1")
        client.xadd("lookup:quarantine", {"queue": "lookup.opay.bulk", "reason": "not JSON", "raw": b"\x00"}, id="1-1")
        client.sadd("lookup:result-queues", "token-records:default", "token-records:gone")
        client.xadd("token-records:default", {"lookup_id": "a", "result": b"no result"})
        client.xgroup_create("token-records:default", "shop", id="0")
        hold_open(client, "opay", "*", seconds=3600, reason="maintenance")
        yield client


def everything(client: Any) -> dict[bytes, bytes]:
    return {key: client.dump(key) for key in client.scan_iter(count=1000)}


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "status --json",
        "health",
        "health --host one --json",
        "circuit list",
        "dead-letters list",
        "dead-letters show 1-1 --reveal",
        "dead-letters replay 1-1 --dry-run",
        "dead-letters discard 1-1 --dry-run",
        "quarantine list",
        "quarantine show 1-1 --reveal",
        "quarantine release 1-1 --dry-run",
        "results",
        "results --json --count 1",
    ],
)
def test_a_command_that_looks_changes_nothing(server: RedisServer, client: Any, command: str) -> None:
    before = everything(client)
    done = CliRunner().invoke(
        cardtoken, command.split(), env={"REDIS_URL": server.url}, standalone_mode=False, catch_exceptions=False
    )
    assert (done.return_value or 0) == ("health" in command)
    assert everything(client) == before


def test_reading_the_status_for_the_metrics_changes_nothing(client: Any) -> None:
    before = everything(client)
    assert status.look(client).silent[0].name == "bulk@one"
    assert everything(client) == before


def test_no_command_opens_what_it_is_not_asked_to(server: RedisServer, tmp_path: Path) -> None:
    """A replay without a yes, and a bulk file with a fault, are no more than a look."""
    source = tmp_path / "cards.jsonl"
    source.write_text("[]\n")
    with redis.Redis.from_url(server.url) as client:
        before = everything(client)
        for args in (["bulk", str(source), "--out", str(tmp_path / "out.jsonl")], ["dead-letters", "replay", "1-1"]):
            done = CliRunner().invoke(cardtoken, args, env={"REDIS_URL": server.url})
            assert done.exit_code == 2
        assert everything(client) == before
