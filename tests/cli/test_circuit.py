"""``cardtoken circuit``, on a terminal and in a pipe; ``tests/faults/test_outages.py`` has it with workers."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cardtoken.circuits import ASKED, FORCED, OPEN
from cardtoken.providers import PROVIDERS
from sandbox.redis_server import RedisServer
from tests.cli.terminal import Terminal, environment, piped, piped_each


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def env(server: RedisServer) -> dict[str, str]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return environment(server.url)


@pytest.fixture
def client(server: RedisServer, env: dict[str, str]) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as client:
        yield client


def test_nothing_is_open_and_says_so(env: dict[str, str]) -> None:
    done = piped(env, "circuit", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing is held open" in done.stderr
    closing = piped(env, "circuit", "close", "opay")
    assert (closing.returncode, closing.stderr) == (3, "Nothing was open.\n")


def test_held_open_it_is_listed_with_reason_and_end(env: dict[str, str], client: Any) -> None:
    assert (
        piped(env, "circuit", "open", "opay", "--account", "shop", "--for", "30m", "--reason", "keys").returncode == 0
    )
    assert client.zrange(FORCED, 0, -1) == [b"opay:shop"]
    (line,) = piped(env, "circuit", "list").stdout.splitlines()
    assert line.split("\t") == ["opay", "shop", "held", "30 min", "0/0", "keys"]
    told = json.loads(piped(env, "circuit", "list", "--json").stdout)
    assert (told["state"], round(told["left"] / 60), told["reason"]) == ("held", 30, "keys")
    with Terminal(env, "circuit", "list") as terminal:
        assert terminal.end() == 0
        assert "held" in terminal.text
        assert "\x1b[35m" in terminal.raw
    assert piped(env, "circuit", "close", "opay", "--account", "shop").returncode == 0
    assert piped(env, "circuit", "list").stdout == ""


def test_a_pause_that_a_provider_asked_for_is_listed_with_its_answer(env: dict[str, str], client: Any) -> None:
    client.zadd(OPEN, {"opay:shop": (time.time() + 120) * 1000})
    client.hset(ASKED, "opay:shop", "rate_limited 120000")
    (line,) = piped(env, "circuit", "list").stdout.splitlines()
    state, _, _, reason = line.split("\t")[2:]
    assert (state, reason) == ("paused", "the provider asked to be left alone (rate_limited)")
    with Terminal(env, "circuit", "list") as terminal:
        assert terminal.end() == 0
        assert "paused" in terminal.text
    assert "asked to be left alone" in piped(env, "status").stdout
    assert piped(env, "circuit", "close", "opay", "--account", "shop").returncode == 0
    assert (client.zcard(OPEN), client.hlen(ASKED)) == (0, 0)


def test_closing_a_provider_closes_all_of_its_accounts(env: dict[str, str], client: Any) -> None:
    client.zadd(OPEN, {"opay:one": 1, "opay:two": 2**50, "afterpay:one": 1})
    states = [line.split("\t")[2] for line in piped(env, "circuit", "list").stdout.splitlines()]
    assert states == ["trying", "trying", "open"]
    assert piped(env, "circuit", "close", "opay").returncode == 0
    assert client.zrange(OPEN, 0, -1) == [b"afterpay:one"]


def test_wrong_usage_names_the_way_out(env: dict[str, str]) -> None:
    mistakes = (
        (["open", "opay", "--for", "2h"], "--reason"),
        (["open", "opay", "--reason", "x"], "--for"),
        (["open", "opay", "--for", "soon", "--reason", "x"], "90s, 15m, 2h or 7d"),
        (["open", "visa", "--for", "2h", "--reason", "x"], "'visa'"),
        (["close"], f"{{{'|'.join(PROVIDERS)}}}"),
    )
    each = piped_each(env, *(["circuit", *args] for args, _ in mistakes))
    for done, (_, says) in zip(each, mistakes, strict=True):
        assert done.returncode == 2
        assert says in done.stderr
