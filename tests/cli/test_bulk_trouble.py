"""``cardtoken bulk`` and ``results --follow`` while Redis refuses, and what they say meanwhile; there is no worker."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from cardtoken.circuits import OPEN, hold_open
from cardtoken.cli.progress import Pace
from cardtoken.cli.whereabouts import are_there_any, why_quiet
from cardtoken.refusals import code_of, is_worth_waiting, text_of
from sandbox.redis_server import RedisServer
from sandbox.waiting import until
from tests.cli.terminal import Terminal, environment, piped

QUEUE = "lookup.opay.bulk"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(extra={"lua-time-limit": "200"}) as server:
        yield server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    """A connection of before any trouble, on an empty server."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


def _read_only(admin: Any) -> Callable[[], object]:
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: admin.execute_command("REPLICAOF", "NO", "ONE")


def _no_permission(admin: Any) -> Callable[[], object]:
    admin.execute_command("ACL", "SETUSER", "default", "-xreadgroup", "-evalsha", "-eval")
    return lambda: admin.execute_command("ACL", "SETUSER", "default", "+@all")


def _not_in_scripts(admin: Any) -> Callable[[], object]:
    admin.execute_command("ACL", "SETUSER", "default", "-lpush")
    admin.rpop(QUEUE)
    return lambda: admin.execute_command("ACL", "SETUSER", "default", "+@all")


def _other_password(admin: Any) -> Callable[[], object]:
    admin.config_set("requirepass", "changed")
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return lambda: admin.config_set("requirepass", "")


def _no_replicas(admin: Any) -> Callable[[], object]:
    admin.config_set("min-replicas-to-write", 1)
    return lambda: admin.config_set("min-replicas-to-write", 0)


def _full(admin: Any) -> Callable[[], object]:
    admin.config_set("maxmemory", 1)
    admin.rpop(QUEUE)
    return lambda: admin.config_set("maxmemory", 0)


def _busy(admin: Any) -> Callable[[], object]:
    def run() -> None:
        with suppress(redis.RedisError), redis.Redis(connection_pool=admin.connection_pool) as client:
            client.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        until(lambda: True if _killed(admin) else None)
        thread.join()

    return end


def _killed(admin: Any) -> bool:
    try:
        admin.execute_command("SCRIPT", "KILL")
    except redis.ResponseError as error:
        return "NOTBUSY" not in str(error)
    return True


#: What is done to Redis, and what of it is said.
TROUBLE = (
    (_read_only, "has to name the primary"),
    (_no_permission, "needs more permissions"),
    (_not_in_scripts, "(?:'lpush'|this) command[^;]*; the user needs more permissions"),
    (_other_password, "user and password"),
    (_no_replicas, "NOREPLICAS"),
    (_full, "its memory is full"),
    (_busy, "a script holds it up"),
)


def test_a_run_waits_while_redis_refuses_and_says_so_once(server: RedisServer, admin: Any, tmp_path: Path) -> None:
    source = tmp_path / "cards.txt"
    source.write_text("".join(f"OPAY_TOKEN_{number}\n" for number in range(10_000)))
    command = ["bulk", str(source), "--provider", "opay", "--out", str(tmp_path / "out.jsonl")]
    with Terminal(environment(server.url), *command, "--max-queue-length", "1", columns=400) as terminal:
        until(lambda: True if admin.llen(QUEUE) == 1 else None)
        for number, (begin, words) in enumerate(TROUBLE, 1):
            end = begin(admin)
            try:
                terminal.until(f"(Redis answers again(?s:.*)){{{number - 1}}}Waiting for Redis: [^\\n]*{words}")
            finally:
                end()
            terminal.until(f"(?s)(Redis answers again.*){{{number}}}")
            # It goes on: there is room for the next one.
            admin.rpop(QUEUE)
            until(lambda: True if admin.llen(QUEUE) == 1 else None)
        said = terminal.text.count("Waiting for Redis")
        assert said <= len(TROUBLE) + 1, "once each, and of a connection that is cut"
        terminal.press_ctrl_c()
        assert terminal.end() == 130
        assert "the same command goes on" in terminal.text


def test_a_command_that_follows_results_waits_too(server: RedisServer, admin: Any) -> None:
    stream = "token-records:default"
    result = {"lookup_id": "a", "task_id": "t", "provider": "opay", "account": "default", "status": "not_found",
              "attempts": 1, "requested_at": "2026-01-31T12:00:00Z", "completed_at": "2026-01-31T12:00:01Z",
              "schema_version": 1}  # fmt: skip
    for number, args in enumerate(([], ["--group", "till", "--consumer", "one"])):
        admin.xadd(stream, {"result": json.dumps({**result, "lookup_id": f"first-{number}"})})
        with Terminal(environment(server.url), "results", "--follow", *args) as terminal:
            terminal.until(f"first-{number}")
            admin.execute_command("ACL", "SETUSER", "default", "-xread", "-xreadgroup")
            terminal.until("waits for Redis")
            admin.execute_command("ACL", "SETUSER", "default", "+@all")
            admin.xadd(stream, {"result": json.dumps({**result, "lookup_id": f"second-{number}"})})
            terminal.until(f"second-{number}")
            terminal.press_ctrl_c()
            assert terminal.end() == 130


def test_a_run_whose_messages_are_lost_ends_though_it_asks_again(
    server: RedisServer, admin: Any, tmp_path: Path
) -> None:
    (tmp_path / "cards.csv").write_text("opay_token,lookup_id\nOPAY_TOKEN_a,a\nOPAY_TOKEN_b,b\n")
    command = ["bulk", str(tmp_path / "cards.csv"), "--out", str(tmp_path / "out.csv"), "--again"]
    tasks = []
    with Terminal(environment(server.url), *command, columns=400) as terminal:
        for words in ("asking for them anew", "2 of 2 have no result"):
            [entry] = until(lambda: admin.lrange(QUEUE, 0, -1) or None)
            tasks.append(json.loads(entry)["headers"]["id"])
            admin.delete(QUEUE)
            terminal.until(words)
        assert terminal.end() == 6
    assert tasks[0] != tasks[1]
    assert (tmp_path / "out.csv.missing").read_text() == "2\n3\n"


def test_a_message_is_found_wherever_it_is(admin: Any) -> None:
    assert not are_there_any(admin, [QUEUE], "bulk.1:")
    admin.lpush(QUEUE, *(f"entry of bulk.{number}0:" for number in range(250)))
    assert are_there_any(admin, [QUEUE], "bulk.00:")
    assert not are_there_any(admin, [QUEUE], "bulk.1:")
    admin.hset("lookup:claim:c", mapping={"queue": QUEUE, "entry": "bulk.1:0.0"})
    for key in (f"lookup:delayed:{QUEUE}", "lookup:leases"):
        admin.zadd(key, {"gone": 1, "c": 2})
        assert are_there_any(admin, [QUEUE], "bulk.1:")
        admin.delete(key)
    admin.lpush(f"lookup:given-back:{QUEUE}", "c")
    assert are_there_any(admin, [QUEUE], "bulk.1:")


def test_why_it_is_quiet_is_said_as_it_is(admin: Any) -> None:
    assert "No living worker takes from lookup.opay.bulk" in why_quiet(admin, [QUEUE])
    fields = {"name": "w@h", "host": "h", "pid": 1, "threads": 1, "version": "1", "started_at": "2026-01-01T00:00:00Z",
              "queues": json.dumps([QUEUE]), "messages": 0, "still": 0}  # fmt: skip
    admin.hset("lookup:worker:w", mapping=fields)
    admin.sadd("lookup:workers", "w")
    admin.lpush(QUEUE, "a", "b")
    assert "2 messages wait" in why_quiet(admin, [QUEUE])
    admin.zadd(OPEN, {"opay:default": (time.time() + 8) * 1000})
    said = why_quiet(admin, [QUEUE])
    assert "opay, account default, is not asked now: its circuit is open, for another " in said
    assert "tried again by themselves" in said
    assert "circuit" not in why_quiet(admin, ["lookup.afterpay.bulk"]), "the run does not wait for that"
    hold_open(admin, "opay", "*", seconds=60, reason="keys are changed")
    assert "keys are changed" in why_quiet(admin, [QUEUE])


@pytest.mark.parametrize(
    ("error", "code", "waits"),
    [
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it is"), "MISCONF", True),
        (redis.ResponseError("BUSY Redis is busy running a script."), "BUSY", True),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING", True),
        (redis.exceptions.MasterDownError("Link with MASTER is down"), "MASTERDOWN", True),
        (redis.exceptions.ClusterDownError("The cluster is down"), "CLUSTERDOWN", True),
        (redis.AuthenticationError("invalid username-password pair"), "NOAUTH", True),
        (redis.ConnectionError("Connection refused"), "Connection", True),
        # As scripts of 6.2 say it.
        (redis.ResponseError("Error running script (call to f_a): @user_script:9: -OOM command not"), "OOM", True),
        (redis.ResponseError("Error running script (call to f_a): @user_script:9: -READONLY You"), "READONLY", True),
        (redis.ResponseError("The user executing the script can't run this command or subcommand"), "NOPERM", True),
        (redis.ResponseError("WRONGTYPE Operation against a key"), "WRONGTYPE", False),
        (redis.ResponseError("unknown command 'EVALSHA', with args beginning with: 'OPAY_TOKEN"), "unknown", False),
    ],
)
def test_errors_that_pass_are_distinguished_from_those_that_do_not(
    error: redis.RedisError, code: str, waits: bool
) -> None:
    assert (code_of(error), is_worth_waiting(error)) == (code, waits)
    assert "OPAY_TOKEN" not in text_of(error)


def test_an_estimate_is_steady_or_absent() -> None:
    pace = Pace(0, 0.0)
    for tenth in range(1, 300):
        pace.at(tenth * 10, tenth / 10)
    assert pace.rate(2_990, 29.9) == pytest.approx(100, rel=0.05)
    assert pace.rate(2_990, 36.0) is None, "nothing comes any more"
    pace.at(3_000, 930.0)
    assert pace.rate(3_000, 930.0) is None, "an outage is over, and is no part of the rate"
    for tenth in range(1, 30):
        pace.at(3_000 + tenth * 10, 930 + tenth / 10)
    assert pace.rate(3_290, 932.9) == pytest.approx(100, rel=0.05)


def test_a_password_that_is_wrong_from_the_start_ends_a_run(server: RedisServer, admin: Any, tmp_path: Path) -> None:
    (tmp_path / "cards.txt").write_text("OPAY_TOKEN_a\n")
    command = ["bulk", str(tmp_path / "cards.txt"), "--provider", "opay", "--out", str(tmp_path / "out.jsonl")]
    wrong = server.url.replace("redis://", "redis://nobody:wrong@")
    done = piped(environment(wrong), *command)
    assert done.returncode == 5
    assert not (tmp_path / "out.jsonl.partial").exists()
