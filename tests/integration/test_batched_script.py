"""Calls of one script by many threads: each thread leaves with its own reply, or with its own error."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from redis import ConnectionPool, Redis, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from sandbox.redis_server import RedisServer
from tasks.stores.batched_script import BatchedScript, _Call

ECHO = "if ARGV[1] == 'refuse' then return redis.error_reply('ERR refused') end return {ARGV[1], KEYS[1]}"
#: More than fit into two round trips.
THREADS = 70


class Gated(ConnectionPool):
    """A pool whose first connection is handed out when the test says so: the calls behind it pile up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.open = threading.Event()
        self.asked = threading.Event()
        #: What asking for the next connections ends in.
        self.errors: list[BaseException | None] = []

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        self.open.wait()
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return super().get_connection(*args, **kwargs)


@pytest.fixture
def pool(redis_server: RedisServer) -> Iterator[Gated]:
    pool = Gated.from_url(redis_server.url)
    yield pool
    pool.open.set()
    pool.disconnect()


@pytest.fixture
def script(pool: Gated) -> BatchedScript:
    return BatchedScript(Redis(connection_pool=pool), ECHO)


@contextmanager
def piled_up(
    pool: Gated, script: BatchedScript, arguments: list[str], call: Callable[[str], Any]
) -> Iterator[list[Future[Any]]]:
    """One thread for each argument; all of them wait before the first connection is handed out."""
    with ThreadPoolExecutor(len(arguments)) as threads:
        futures = [threads.submit(call, arguments[0])]
        assert pool.asked.wait(30)
        futures += [threads.submit(call, each) for each in arguments[1:]]
        while len(script._waiting) < len(arguments) - 1:
            time.sleep(0.001)
        pool.open.set()
        yield futures


def echo(script: BatchedScript) -> Callable[[str], Any]:
    return lambda argument: script.call(["key"], [argument])


def test_every_thread_gets_its_own_reply_when_more_wait_than_fit_into_one_round_trip(
    pool: Gated, script: BatchedScript
) -> None:
    arguments = [str(number) for number in range(THREADS)]
    with piled_up(pool, script, arguments, echo(script)) as futures:
        assert [future.result(30) for future in futures] == [[each.encode(), b"key"] for each in arguments]


def test_a_thread_whose_turn_comes_before_its_call_does_sends_until_its_own_is_answered(
    redis_server: RedisServer,
) -> None:
    with Redis.from_url(redis_server.url) as redis:
        script = BatchedScript(redis, ECHO)
        others = [_Call(("EVALSHA", script._sha, 1, "key", number)) for number in range(THREADS)]
        script._waiting.extend(others)
        assert script.call(["key"], ["mine"]) == [b"mine", b"key"]
    assert [other.reply for other in others] == [[str(number).encode(), b"key"] for number in range(THREADS)]


def test_many_threads_and_thousands_of_calls_mix_up_no_replies(redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as redis:
        script = BatchedScript(redis, ECHO)

        def calls(thread: int) -> list[tuple[str, Any]]:
            return [(each, script.call(["key"], [each])) for each in (f"{thread}-{turn}" for turn in range(40))]

        with ThreadPoolExecutor(128) as threads:
            answered = [pair for pairs in threads.map(calls, range(128)) for pair in pairs]
    assert len(answered) == 128 * 40
    assert [sent for sent, reply in answered if reply != [sent.encode(), b"key"]] == []


@pytest.mark.parametrize(
    "error",
    [RedisConnectionError("gone"), OSError("no descriptors"), MemoryError(), KeyError("ours"), RuntimeError("thread")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_any_kind_reaches_every_call_of_its_round_trip_and_no_other(
    pool: Gated, script: BatchedScript, error: Exception
) -> None:
    arguments = [str(number) for number in range(THREADS)]
    pool.errors = [None, error]
    with piled_up(pool, script, arguments, echo(script)) as futures:
        ends = [future.exception(30) or future.result() for future in futures]
    assert ends.count(error) == 32
    assert [end for end, each in zip(ends, arguments, strict=True) if end not in (error, [each.encode(), b"key"])] == []


def test_an_argument_that_cannot_be_packed_fails_its_own_call_only(pool: Gated, script: BatchedScript) -> None:
    odd: dict[str, Any] = {"none": None, "object": object(), "half a pair": "\ud800"}

    def call(name: str) -> Any:
        return script.call(["key"], [odd.get(name, name)])

    arguments = ["first", *odd, *(str(number) for number in range(20))]
    with piled_up(pool, script, arguments, call) as futures:
        found = {name: future.exception(30) for name, future in zip(arguments, futures, strict=True)}
    assert {name for name, error in found.items() if error is not None} == set(odd)


def test_a_refusal_is_of_its_own_call(pool: Gated, script: BatchedScript) -> None:
    arguments = ["first", "1", "refuse", "2"]
    with piled_up(pool, script, arguments, echo(script)) as futures:
        errors = [future.exception(30) for future in futures]
    assert [type(error) for error in errors] == [type(None), type(None), ResponseError, type(None)]


def test_a_thread_that_is_ended_while_it_sends_leaves_no_other_waiting(pool: Gated, script: BatchedScript) -> None:
    caught: list[BaseException] = []

    def call(argument: str) -> Any:
        try:
            return script.call(["key"], [argument])
        except SystemExit as error:
            caught.append(error)
            raise RuntimeError("ended") from None

    arguments = [str(number) for number in range(THREADS)]
    pool.errors = [None, SystemExit()]
    with piled_up(pool, script, arguments, call) as futures:
        errors = [future.exception(30) for future in futures]
    assert len(caught) == 1
    # One was ended, those sent with it may ask again, all others have their replies.
    assert sorted(type(error).__name__ for error in errors if error) == ["ConnectionError"] * 31 + ["RuntimeError"]
