"""The users of deploy/redis: what each must do works, what it must not is refused, on a real server."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from sandbox.processes import start
from sandbox.redis_server import find_server, free_port
from tests.browser.flower import Flower
from tests.cli.terminal import environment, piped
from tests.harness import ROOT, Service, Simulator, clean_environment, until

USERS = ("worker", "producer", "consumer", "operator", "flower")
START = ROOT / "deploy" / "redis" / "start.sh"


class Server:
    """Redis as deploy/redis/start.sh starts it."""

    def __init__(self, folder: Path, program: str) -> None:
        self.port = free_port()
        passwords = {f"{user.upper()}_PASSWORD": f"{user}-password/+1" for user in USERS}
        (folder / "operator").write_text(passwords.pop("OPERATOR_PASSWORD") + "\n")
        self.users_file = folder / "users.acl"
        more = {"USERS_FILE": str(self.users_file), "REDIS_SERVER": program, "LC_ALL": "C",
                "OPERATOR_PASSWORD_FILE": str(folder / "operator")}  # fmt: skip
        self.child = start(
            ["/bin/sh", START, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
            env={**clean_environment(), **passwords, **more},
        )
        self.url = self.url_of("worker")

    def url_of(self, user: str) -> str:
        return f"redis://{user}:{user}-password%2F%2B1@127.0.0.1:{self.port}/0"

    def client(self, user: str) -> Any:
        return redis.Redis.from_url(self.url_of(user), protocol=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"), str(find_server()))

    def answers() -> bool | None:
        assert server.child.poll() is None, server.child.output and server.child.output.tail()
        try:
            return bool(server.client("operator").ping()) or None
        except redis.ConnectionError:
            return None

    until(answers)
    yield server
    server.child.stop()


@pytest.fixture(scope="module")
def service(server: Server, simulator: Simulator) -> Iterator[Service]:
    service: Service = Service(server, simulator, LEASE_SECONDS="2", OPAY_RATE_LIMIT="1000/s")  # type: ignore[arg-type]
    service.producer = Celery("a-producer", broker=server.url_of("producer"))
    with service.worker(METRICS_PORT=str(free_port())) as worker:
        yield service
        assert worker.stop() == 0
        assert "NOPERM" not in worker.log
        assert "NoPermission" not in worker.log


def test_a_worker_does_all_its_work(service: Service) -> None:
    names = ("visa", "timeout-1", "code-20000", "not-found")
    for lane in ("interactive", "bulk"):
        sent = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}~{lane}"} for name in names], lane=lane)
        service.results(sent, 4)
    later = service.send("afterpay", [{"original_request_id": "visa"}], countdown=1)
    service.results(later, 1)
    service.redis.lpush("lookup.opay.bulk", b"no message")
    service.quarantined(b"no message")


def test_a_producer_asks_and_reads_its_own_answer(server: Server, service: Service) -> None:
    done = piped(environment(server.url_of("producer")), "lookup", "opay", "OPAY_TOKEN_visa")
    assert done.returncode == 0, done.stderr


def test_a_consumer_reads(server: Server, service: Service) -> None:
    service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa", "lookup_id": "read-me"}]), 1)
    lines: list[str] = []
    env = {**clean_environment(), "REDIS_URL": server.url_of("consumer")}
    command = [sys.executable, str(ROOT / "examples/python/consumer.py"), "acl", "acl-1"]
    consumer = start(command, env=env, on_line=lines.append)
    try:
        until(lambda: True if any("read-me" in line for line in lines) else None)
    finally:
        consumer.stop()


def test_an_operator_has_every_command(server: Server, service: Service) -> None:
    service.results(service.send("opay", [{"opay_token": f"OPAY_TOKEN_code-97~{n}"} for n in range(2)]), 2)
    service.redis.lpush("lookup.opay.bulk", b"no message of the operator")
    service.quarantined(b"no message of the operator")
    env = environment(server.url_of("operator"))
    dead = service.redis.xrevrange("lookup:dead-letters", count=2)
    odd = service.redis.xrevrange("lookup:quarantine", count=1)[0][0].decode()
    commands: list[Sequence[str]] = [
        ("status",),
        ("health",),
        ("circuit", "list"),
        ("circuit", "open", "afterpay", "--for", "1h", "--reason", "maintenance"),
        ("circuit", "close", "afterpay"),
        ("dead-letters", "list"),
        ("dead-letters", "show", dead[0][0].decode()),
        ("dead-letters", "replay", dead[0][0].decode(), "--yes"),
        ("dead-letters", "discard", dead[1][0].decode(), "--yes"),
        ("quarantine", "list"),
        ("quarantine", "release", odd, "--yes"),
        ("results", "--count", "1"),
        ("lookup", "opay", "OPAY_TOKEN_visa"),
    ]
    for command in commands:
        done = piped(env, *command)
        assert done.returncode == 0, (command, done.stderr)


def test_flower_sees_workers_tasks_and_queues(server: Server, service: Service, tmp_path: Path) -> None:
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
    # Nobody changes or empties the server, or reads what is another program's.
    *((user, command) for user in USERS for command in (
        ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "appendonly", "no"), ("KEYS", "*"),
        ("ACL", "LIST"), ("SHUTDOWN",), ("MONITOR",), ("GET", "another:program"),
        ("SET", "another:program", "x"), ("REPLICAOF", "NO", "ONE"), ("CLIENT", "KILL", "ID", "1"), ("SAVE",),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("user", "command"), REFUSED, ids=lambda value: value if isinstance(value, str) else value[0])
def test_what_a_user_must_not_is_refused(server: Server, user: str, command: tuple[Any, ...]) -> None:
    with server.client(user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_nobody_gets_in_without_a_password(server: Server) -> None:
    for url in (f"redis://127.0.0.1:{server.port}", f"redis://worker:guess@127.0.0.1:{server.port}"):
        with redis.Redis.from_url(url) as client, pytest.raises(redis.RedisError, match=r"(?i)auth|invalid"):
            client.ping()


def test_passwords_are_kept_hashed_and_for_its_user_alone(server: Server) -> None:
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
