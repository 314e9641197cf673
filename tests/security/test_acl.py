"""The users of deploy/redis: what each must do works, what it must not is refused, on a real server."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import redis
from celery import Celery
from click.testing import CliRunner

from cardtoken.cli import cardtoken
from cardtoken.status import look
from cardtoken.waiting import WaitingLookups, recount
from sandbox.environment import ROOT, clean_environment
from sandbox.processes import start
from sandbox.redis_server import free_port
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.browser.flower import Flower
from tests.redis_users import START, USERS, ServerWithUsers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerWithUsers]:
    with ServerWithUsers(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def service(server: ServerWithUsers, simulator: Simulator) -> Iterator[Service]:
    service: Service = Service(server, simulator, LEASE_SECONDS="2", OPAY_RATE_LIMIT="1000/s")  # type: ignore[arg-type]
    service.producer = Celery("a-producer", broker=server.url_of("producer"))
    with service.worker(METRICS_PORT=str(free_port())) as worker:
        yield service
        assert worker.stop() == 0
        assert "NOPERM" not in worker.log
        assert "NoPermission" not in worker.log


@pytest.mark.parametrize(
    ("user", "scripts"),
    [("worker", "tasks/**"), ("worker", "cardtoken"), ("operator", "cardtoken/**"), ("metrics", "cardtoken")],
)
def test_a_role_may_what_its_scripts_do(user: str, scripts: str) -> None:
    """A script is refused at its first command that its user lacks, perhaps after others were done."""
    texts = [path.read_text() for path in ROOT.glob(f"{scripts}/*.lua")]
    asked = {name.lower() for text in texts for name in re.findall(r"redis\.p?call\('(\w+)'", text)}
    users = (ROOT / "deploy/redis/users.acl").read_text()
    [rules] = [line.split() for line in users.splitlines() if line.startswith(f"user {user} ")]
    may = {rule[1:].partition("|")[0] for rule in rules if rule.startswith("+")}
    assert asked
    assert asked <= may, asked - may


def test_a_worker_does_all_its_work(service: Service) -> None:
    names = ("visa", "timeout-1", "code-20000", "not-found")
    for lane in ("interactive", "bulk"):
        sent = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}~{lane}"} for name in names], lane=lane)
        service.results(sent, 4)
    later = service.send("afterpay", [{"original_request_id": "visa"}], countdown=1)
    service.results(later, 1)
    service.redis.lpush("lookup.opay.bulk", b"no message")
    service.quarantined(b"no message")


def test_a_consumer_reads(server: ServerWithUsers, service: Service) -> None:
    service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "lookup_id": "read-me"}]), 1)
    lines: list[str] = []
    env = {**clean_environment(), "REDIS_URL": server.url_of("consumer")}
    command = [sys.executable, str(ROOT / "examples/python/consumer.py"), "acl", "acl-1"]
    consumer = start(command, env=env, on_line=lines.append)
    try:
        until(lambda: True if any("read-me" in line for line in lines) else None)
    finally:
        consumer.stop()


@dataclass(frozen=True)
class Kept:
    """Entries that commands may be tried on."""

    dead: list[str]
    odd: list[str]
    folder: Path


@pytest.fixture(scope="module")
def kept(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Dead letters, quarantined entries, a file to look up, and workers that died without a word."""
    service.results(service.send("opay", [{"opay_token": f"OPAY_TOKEN_code-97~{n}"} for n in range(8)]), 8)
    for number in range(3):
        service.redis.lpush("lookup.opay.bulk", b"no message of the operator %d" % number)
        service.quarantined(b"no message of the operator %d" % number)
    service.redis.sadd("lookup:workers", "one that died", "another that died")
    report = {"at": time.time() - 60, "name": "dead@test", "host": "elsewhere", "queues": ["lookup.opay.vip"]}
    service.redis.hset("lookup:workers:last-reports", "one that died", json.dumps(report))
    folder = tmp_path_factory.mktemp("files")
    (folder / "cards.txt").write_text("OPAY_TOKEN_visa~acl\n")
    dead, odd = (
        [name.decode() for name, _ in service.redis.xrange(key)] for key in ("lookup:dead-letters", "lookup:quarantine")
    )
    return Kept(dead, odd, folder)


#: Every command of the command line, as its role's user types it; {dead0} and the like are entries' ids.
COMMANDS = {
    "operator": [
        "status",
        "status --json",
        "health",
        "health --json",
        "circuit list",
        "circuit open afterpay --for 1h --reason maintenance",
        "circuit close afterpay",
        "dead-letters list",
        "dead-letters list --newer-than 1h --limit 0 --json",
        "dead-letters show {dead0} --reveal",
        "dead-letters replay {dead0} --yes",
        "dead-letters replay --task-id nothing --older-than 30d",
        "dead-letters replay --category rejected --newer-than 1h --dry-run",
        "dead-letters discard {dead1} --yes",
        "quarantine list",
        "quarantine show {odd0} --reveal",
        "quarantine release {odd0} --yes",
        "quarantine discard {odd1} --yes",
        "results --count 1",
        "results --group looking --consumer looking-1 --count 1",
        "lookup opay OPAY_TOKEN_visa",
        "bulk {folder}/cards.txt --provider opay --out {folder}/own.jsonl",
        "bulk {folder}/cards.txt --provider opay --out {folder}/named.csv --reply-to bulk-by-hand",
        "completion bash",
    ],
    "producer": ["lookup opay OPAY_TOKEN_visa", "lookup afterpay visa --lane bulk"],
    "consumer": [
        "results",
        "results --count 1 --json",
        "results --follow --count 1",
        "results --group acl-cli --consumer one --count 1",
        "results --group acl-cli --consumer one --follow --count 1",
    ],
}


@pytest.mark.parametrize(("user", "command"), [(user, each) for user, found in COMMANDS.items() for each in found])
def test_a_command_works_as_its_role_with_dead_workers_about(
    server: ServerWithUsers, service: Service, kept: Kept, user: str, command: str
) -> None:
    names = {f"dead{number}": name for number, name in enumerate(kept.dead)}
    names |= {f"odd{number}": name for number, name in enumerate(kept.odd)}
    # In this process, which is much quicker than one for each.
    done = CliRunner().invoke(
        cardtoken,
        command.format(**names, folder=kept.folder).split(),
        env={"REDIS_URL": server.url_of(user)},
        standalone_mode=False,
        catch_exceptions=False,
    )
    assert (done.return_value or 0) == (3 if "nothing" in command else 0), done.output
    assert "permission" not in done.output


def test_no_command_is_left_out() -> None:
    def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[str]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from leaves(command, (*path, name))
            else:
                yield " ".join((*path, name))

    tried = COMMANDS["operator"]
    missing = [each for each in leaves(cardtoken) if not any(f"{command} ".startswith(f"{each} ") for command in tried)]
    assert missing == ["metrics"], "it serves until it is stopped, and has a user of its own"


def test_flower_sees_workers_tasks_and_queues(server: ServerWithUsers, service: Service, tmp_path: Path) -> None:
    with Flower({**service.environment, "REDIS_URL": server.url_of("flower")}, tmp_path) as flower:
        assert len(flower.get("/api/workers?refresh=1").json()) == 1
        sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}])
        until(lambda: True if flower.task(sent).get("state") == "SUCCESS" else None)
        lengths = flower.get("/api/queues/length")
        assert {each["name"] for each in lengths.json()["active_queues"]} >= {"lookup.opay.bulk"}
        assert flower.get("/broker").status_code == 200
        assert not any("NOPERM" in line or "permission" in line for line in flower.lines)


REFUSED: list[tuple[str, tuple[Any, ...]]] = [
    # A producer neither reads what others ask, nor results but those of its own one-off queues.
    ("producer", ("LRANGE", "lookup.opay.interactive", 0, -1)),
    ("producer", ("RPOP", "lookup.opay.interactive")),
    ("producer", ("DEL", "lookup.opay.interactive")),
    ("producer", ("XREAD", "STREAMS", "token-records:default", "0")),
    ("producer", ("XRANGE", "lookup:dead-letters", "-", "+")),
    ("producer", ("XADD", "token-records:default", "*", "result", "forged")),
    ("producer", ("LPUSH", "lookup:given-back:lookup.opay.bulk", "x")),
    # A consumer writes nothing but its place, and asks for nothing.
    ("consumer", ("LPUSH", "lookup.opay.interactive", "x")),
    ("consumer", ("XADD", "token-records:default", "*", "result", "forged")),
    ("consumer", ("XTRIM", "token-records:default", "MAXLEN", 0)),
    ("consumer", ("DEL", "token-records:default")),
    ("consumer", ("XGROUP", "DESTROY", "token-records:default", "acl")),
    ("consumer", ("XREAD", "STREAMS", "lookup:dead-letters", "0")),
    ("consumer", ("XREAD", "STREAMS", "lookup:quarantine", "0")),
    # Flower sees lengths, and nothing of what waits or comes out.
    ("flower", ("LRANGE", "lookup.opay.bulk", 0, -1)),
    ("flower", ("LINDEX", "lookup.opay.bulk", 0)),
    ("flower", ("LPUSH", "lookup.opay.bulk", "x")),
    ("flower", ("DEL", "lookup.opay.bulk")),
    ("flower", ("XREAD", "STREAMS", "token-records:default", "0")),
    ("flower", ("XRANGE", "lookup:dead-letters", "-", "+")),
    # What scales workers sees how much waits, and neither what it is nor anything else.
    *(("scaler", command) for command in (
        ("LRANGE", "lookup.opay.bulk", 0, -1), ("LINDEX", "lookup.opay.bulk", 0), ("LPOS", "lookup.opay.bulk", "x"),
        ("RPOP", "lookup.opay.bulk"), ("LPUSH", "lookup.opay.bulk", "x"), ("DEL", "lookup.opay.bulk"),
        ("LMOVE", "lookup.opay.bulk", "lookup.opay.bulk", "LEFT", "LEFT"), ("DUMP", "lookup.opay.bulk"),
        ("SORT", "lookup.opay.bulk", "ALPHA"), ("ZRANGE", "lookup:delayed:lookup.opay.bulk", 0, -1),
        ("LLEN", "lookup:quarantine"), ("TYPE", "lookup:claim:x"), ("LLEN", "token-records:default"), ("INFO",),
        ("SCRIPT", "LOAD", "return 1"), ("FUNCTION", "LIST"), ("SCAN", 0), ("SUBSCRIBE", "x"), ("EXISTS", "another"),
    )),
    # The exporter reads what waits to count it, and changes nothing.
    *(("metrics", command) for command in (
        ("LPUSH", "lookup.opay.bulk", "x"), ("RPOP", "lookup.opay.bulk"), ("DEL", "lookup.opay.bulk"),
        ("SET", "lookup:waiting", "{}"), ("XADD", "token-records:default", "*", "result", "forged"),
        ("XRANGE", "token-records:default", "-", "+"), ("XRANGE", "lookup:dead-letters", "-", "+"),
        ("HSET", "lookup:claim:x", "entry", "x"), ("ZADD", "lookup:circuits:forced", 1, "opay:*"),
    )),
    # None of the users changes or empties the server, or reads what is another program's.
    *((user, command) for user in USERS for command in (
        ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "appendonly", "no"), ("KEYS", "*"),
        ("ACL", "LIST"), ("SHUTDOWN",), ("MONITOR",), ("GET", "another:program"),
        ("SET", "another:program", "x"), ("REPLICAOF", "NO", "ONE"), ("CLIENT", "KILL", "ID", "1"), ("SAVE",),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("user", "command"), REFUSED, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_command_outside_a_users_rights_is_refused(
    server: ServerWithUsers, user: str, command: tuple[Any, ...]
) -> None:
    with server.client(user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


#: The question of KEDA's trigger `redis`, in effect: the length of a list, whatever the type of its key.
_LENGTH = (
    "local kind = redis.call('type', KEYS[1]).ok; return redis.call(kind == 'zset' and 'zcard' or 'llen', KEYS[1])"
)


def test_what_scales_workers_sees_lengths_and_no_script_shows_it_more(server: ServerWithUsers) -> None:
    with server.client("worker", 0) as worker, server.client("scaler") as scaler:
        worker.lpush("lookup.opay.vip", "secret", "secret")
        worker.zadd("lookup:delayed:lookup.opay.vip", {"secret": 1})
        worker.set("lookup.text", "secret")
        try:
            assert scaler.ping()
            assert scaler.llen("lookup.opay.vip") == 2
            lengths = [
                scaler.eval(_LENGTH, 1, name)
                for name in ("lookup.opay.vip", "lookup:delayed:lookup.opay.vip", "lookup.none")
            ]
            assert lengths == [2, 1, 0]
            for code in (
                "'lindex', 'lookup.opay.vip', 0",
                "'lrange', 'lookup.opay.vip', 0, -1",
                "'rpop', 'lookup.opay.vip'",
                "'lpush', 'lookup.opay.vip', 'x'",
                "'get', 'lookup.text'",
                "'zrange', 'lookup:delayed:lookup.opay.vip', 0, -1",
                "'llen', 'token-records:default'",
                "'type', 'lookup:claim:x'",
                "'keys', '*'",
            ):
                for call in ("call", "pcall"):
                    with pytest.raises(
                        redis.ResponseError, match=r"(?i)permission|NOPERM|ACL|executing the script can't"
                    ):
                        scaler.eval(f"return redis.{call}({code})", 0)
            assert worker.llen("lookup.opay.vip") == 2
        finally:
            worker.delete("lookup.opay.vip", "lookup:delayed:lookup.opay.vip", "lookup.text")


def test_the_exporter_does_all_its_work(server: ServerWithUsers, service: Service, kept: Kept) -> None:
    service.redis.delete("lookup:waiting")
    waiting = WaitingLookups(server.client("metrics"))
    found = look(server.client("metrics"), waiting)
    assert {each.lookups for each in found.queues} == {0}
    with server.client("worker") as worker:
        worker.lpush("lookup.opay.vip", b"no message")
        counts = recount(server.client("metrics"), {"lookup.opay.vip": ["lookup.opay.vip"]}, {})
        worker.delete("lookup.opay.vip")
    assert counts["lookup.opay.vip"].lookups == 1


def test_users_for_scaling_are_left_out_where_they_have_no_password(tmp_path: Path) -> None:
    passwords = {f"{user.upper()}_PASSWORD": "x" for user in USERS if user not in {"scaler", "metrics"}}
    env = {**clean_environment(), **passwords, "USERS_FILE": str(tmp_path / "users.acl"), "REDIS_SERVER": "/bin/true"}
    assert subprocess.run(["/bin/sh", START], env=env, timeout=10, check=False).returncode == 0
    users = [line.split()[1] for line in (tmp_path / "users.acl").read_text().splitlines()]
    assert users == ["default", "worker", "producer", "consumer", "operator", "flower"]


def test_a_connection_without_a_password_is_refused(server: ServerWithUsers) -> None:
    for url in (f"redis://127.0.0.1:{server.port}", f"redis://worker:guess@127.0.0.1:{server.port}"):
        with redis.Redis.from_url(url) as client, pytest.raises(redis.RedisError, match=r"(?i)auth|invalid"):
            client.ping()


def test_passwords_are_kept_hashed_and_for_its_user_alone(server: ServerWithUsers) -> None:
    text = server.users_file.read_text()
    assert "password/" not in text
    assert "${" not in text
    assert server.users_file.stat().st_mode & 0o077 == 0
    command = subprocess.run(
        ["ps", "-o", "args=", "-p", str(server.child.pid)], capture_output=True, text=True, check=False
    )
    assert "password/" not in command.stdout


def test_a_user_without_a_password_is_refused_with_the_way_out(tmp_path: Path) -> None:
    env = {**clean_environment(), "USERS_FILE": str(tmp_path / "users.acl"), "WORKER_PASSWORD": "x"}
    done = subprocess.run(["/bin/sh", START], env=env, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 78
    assert "set PRODUCER_PASSWORD" in done.stderr
