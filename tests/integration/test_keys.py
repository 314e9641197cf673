"""The table of keys is the truth: what a service at work writes to Redis is in it, with the type that it says."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from cardtoken.circuits import close, hold_open
from cardtoken.key_kinds import KINDS, KeyKind, kind_of
from sandbox.environment import ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.cli.terminal import environment, piped

#: Keyspace events → the type of the key that they are about. Others, such as del and expire, are about any.
_EVENTS = {
    **dict.fromkeys(("lpush", "rpush", "lpop", "rpop", "lmove", "linsert"), "list"),
    **dict.fromkeys(("hset", "hdel", "hincrby"), "hash"),
    **dict.fromkeys(("sadd", "srem"), "set"),
    **dict.fromkeys(("zadd", "zrem", "zincr"), "zset"),
    **dict.fromkeys(("xadd", "xtrim", "xdel", "xgroup-create"), "stream"),
    "set": "string",
}


class Writes:
    """All keys that are written to, with their types, as Redis itself reports them."""

    def __init__(self, url: str) -> None:
        client: Any = redis.Redis.from_url(url)
        self._client = client
        self._client.config_set("notify-keyspace-events", "KA")
        self._events: Any = client.pubsub()
        self._events.psubscribe("__keyspace@0__:*")
        assert self._events.get_message(timeout=5)["type"] == "psubscribe"
        self._ended = threading.Event()
        self.types: dict[str, set[str]] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            message = self._events.get_message(timeout=0.1)
            if message is not None and message["type"] == "pmessage":
                key = message["channel"].decode().partition(":")[2]
                types = self.types.setdefault(key, set())
                if kind := _EVENTS.get(message["data"].decode()):
                    types.add(kind)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._events.close()
        self._client.close()


@pytest.fixture(scope="module")
def written(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What a worker and its users write in a run that has everything in it."""
    file: Path = tmp_path_factory.mktemp("keys") / "tokens.txt"
    file.write_text("OPAY_TOKEN_visa~keys\n", encoding="utf-8")
    with RedisServer() as server:
        service = Service(server, simulator)
        writes = Writes(server.url)
        # The release before had published here: for a day both kinds of fences are written.
        service.redis.sadd("lookup:result-queues", "token-records:default")
        with service.worker(OPAY_RATE_LIMIT="100/s", LEASE_SECONDS="1", RESULT_RETENTION="20") as worker:
            scenarios = ("visa", "timeout-1", "code-20000", "rate-limited-1-1")
            sent = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{each}~keys"} for each in scenarios])
            one_off = service.send("afterpay", [{"original_request_id": "visa", "reply_to": "reply.x"}])
            service.redis.lpush("lookup.opay.bulk", b"not a message")
            service.redis.lpush("lookup.opay.bulk:3", b"nor this")
            service.redis.lpush("lookup.opay.vip", b"of no worker")
            hold_open(service.redis, "afterpay", "shop", seconds=60, reason="a test")
            close(service.redis, "afterpay", "shop")
            command = ("bulk", str(file), "--provider", "opay", "--out", f"{file}.jsonl")
            done = piped(environment(server.url), *command)
            assert done.returncode == 0, done.stderr
            service.results(one_off, 1, "reply.x")
            service.results(sent, len(scenarios))
            until(lambda: not service.redis.exists("lookup:leases") or None)
            # One in hand when the worker stops goes back.
            service.send("opay", [{"opay_token": "OPAY_TOKEN_hang~keys"}], lane="bulk")
            until(lambda: service.redis.exists("lookup:leases") or None)
            missing = {"lookup:sweep-lock", "lookup:other-lists", "lookup:quarantine"}
            until(lambda: missing <= writes.types.keys() or None)
            worker.child.kill()
            worker.child.wait(10)
        with service.worker("-Q", "lookup.opay.bulk", LEASE_SECONDS="1"):
            until(lambda: any(key.startswith("lookup:given-back:") for key in list(writes.types)) or None)
        writes.end()
        return writes.types


def test_every_key_that_is_written_is_in_the_table_with_its_type(written: dict[str, set[str]]) -> None:
    strays = {key: types for key, types in written.items() if kind_of(key) is None}
    assert strays == {}
    wrong = {key: types for key, types in written.items() if (kind := kind_of(key)) and not types <= {kind.type}}
    assert wrong == {}


def test_every_kind_of_the_table_is_written_by_a_service_at_work(written: dict[str, set[str]]) -> None:
    seen = {kind.pattern for key in written if (kind := kind_of(key))}
    assert {kind.pattern for kind in KINDS} - seen == set()


def test_a_key_is_of_the_most_exact_kind() -> None:
    for key, pattern in {
        "token-records:reply.1": "token-records:reply.<id>",
        "token-records:shop": "token-records:<reply_to>",
        "lookup:workers:last-reports": "lookup:workers:last-reports",
        "lookup.opay.bulk\x06\x163": "lookup.<provider>.<lane>",
    }.items():
        kind = kind_of(key)
        assert kind is not None
        assert kind.pattern == pattern
    assert kind_of("lookup:no-such-thing") is None
    assert len({kind.pattern for kind in KINDS}) == len(KINDS)


def row(kind: KeyKind) -> str:
    return f"| `{kind.pattern}` | {kind.type} | {kind.kept} | {kind.written_by} | {kind.holds} |"


def test_the_page_shows_the_table() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = page.partition("| key | type | kept | written by | holds |\n| --- | --- | --- | --- | --- |\n")[2]
    rows = [row(kind) for kind in KINDS]
    assert table.splitlines()[: len(rows) + 1] == [*rows, ""], "\n".join(rows)


def test_no_other_module_spells_a_key() -> None:
    spelled = re.compile(r"""["'](lookup:[a-z]|token-records:|lookup\.\{)""")
    sources = [path for room in ("cardtoken", "config", "tasks") for path in (ROOT / room).rglob("*")]
    found = {
        str(path.relative_to(ROOT)): line.strip()
        for path in sources
        if path.suffix in {".py", ".lua"} and path.name != "keys.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if spelled.search(line)
    }
    assert found == {}
