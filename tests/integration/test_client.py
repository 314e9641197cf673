"""The client against a real Redis, without a worker: pushing, reading in groups, taking over, being closed."""

import asyncio
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from cardtoken import (
    AsyncClient,
    Client,
    ClosedError,
    InvalidRequestError,
    LookupTimeoutError,
    OpayRequest,
    RedisRefusedError,
    RedisUnavailableError,
)
from cardtoken.producer import Progress
from sandbox.redis_server import RedisServer
from sandbox.waiting import until
from tests.integration.test_client_twins import KINDS, AsyncTwin, Either, Make, closing

TOKEN = "OPAY_TOKEN_canary_4111111111111111"
BULK, INTERACTIVE = "lookup.opay.bulk", "lookup.opay.interactive"
STREAM = "token-records:default"


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Any]:
    """The server, empty."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes clients of either kind."""
    made: list[Either] = []

    def make(*args: Any, **options: Any) -> Either:
        client: Either = request.param(*args, **options)
        made.append(client)
        return client

    yield make
    closing(made)


@pytest.fixture
def client(make: Make, store: Any, redis_server: RedisServer) -> Either:
    return make(redis_server.url, retry_for=5)


@pytest.fixture
def plain(store: Any, redis_server: RedisServer) -> Iterator[Client]:
    """The client for threads, for what takes its time and is not the twins' own."""
    with Client(redis_server.url) as client:
        yield client


def result(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "lookup_id": f"lookup-{number}",
        "task_id": "task-1",
        "provider": "opay",
        "account": "default",
        "status": "not_found",
        "attempts": 1,
        "requested_at": "2026-01-31T12:00:00Z",
        "completed_at": "2026-01-31T12:00:01Z",
        **fields,
    }


def publish(store: Any, *results: dict[str, Any], stream: str = STREAM) -> list[bytes]:
    return [store.xadd(stream, {"lookup_id": "…", "result": json.dumps(each)}) for each in results]


def pending(store: Any, group: str = "till") -> int:
    count: int = store.xpending(STREAM, group)["pending"]
    return count


def ids(results: Iterator[Any]) -> list[str]:
    return [each.lookup_id for each in results]


def many(count: int) -> list[dict[str, str]]:
    return [{"opay_token": f"token-{number}"} for number in range(count)]


# --- pushing


def test_enqueue_returns_the_ids(client: Either, store: Any) -> None:
    first = client.enqueue({"opay_token": TOKEN})
    assert first.lookup_id == f"{first.task_id}:0"
    assert client.enqueue({"opay_token": TOKEN, "lookup_id": "mine"}, lane="bulk").lookup_id == "mine"
    assert client.enqueue({"opay_token": TOKEN}, task_id="again").task_id == "again"
    assert (store.llen(INTERACTIVE), store.llen(BULK)) == (2, 1)
    with pytest.raises(ValueError, match="not a valid Lane"):
        client.enqueue({"opay_token": TOKEN}, lane="fast")
    with pytest.raises(InvalidRequestError, match="reply_to"):
        client.enqueue({"opay_token": TOKEN}, reply_to="a/b")


def test_kombu_reads_what_the_client_writes_and_it_looks_like_its_own(
    client: Either, store: Any, redis_server: RedisServer
) -> None:
    receipt = client.enqueue(OpayRequest.model_validate({"opay_token": TOKEN}), lane="bulk")
    ours = json.loads(store.lrange(BULK, 0, 0)[0])
    with Celery(broker=redis_server.url, set_as_current=False) as app, app.connection_for_read() as connection:
        with connection.SimpleQueue(BULK) as queue:
            message = queue.get(timeout=5)
            args, kwargs, embed = message.decode()
            message.ack()
        app.send_task("lookup.opay", kwargs={"requests": kwargs["requests"]}, queue=BULK)
    stock = json.loads(store.lrange(BULK, 0, 0)[0])
    assert (args, [each["opay_token"] for each in kwargs["requests"]]) == ([], [TOKEN])
    assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    assert message.headers["id"] == message.properties["correlation_id"] == receipt.task_id
    assert ours.keys() == stock.keys()
    for part in ("headers", "properties"):
        assert ours[part].keys() == stock[part].keys()
    for field in ("delivery_info", "delivery_mode", "priority", "body_encoding"):
        assert ours["properties"][field] == stock["properties"][field]


def test_many_of_both_providers_are_pushed_in_lists_and_counted(client: Either, store: Any) -> None:
    seen: list[Progress] = []
    requests = [*many(5100), {"original_request_id": "request-1"}]
    done = client.enqueue_many(iter(requests), reply_to="till", max_queue_length=None, on_progress=seen.append)
    assert (done.requests, done.messages) == (5101, 12)
    assert seen[-1] == done
    assert [each.requests for each in seen] == sorted(each.requests for each in seen)
    assert len(seen) < done.messages, "several messages in a round trip"
    assert (store.llen(BULK), store.llen("lookup.afterpay.bulk")) == (11, 1)
    assert client.enqueue_many([]) == Progress()


def test_a_full_queue_is_waited_for(client: Either, store: Any) -> None:
    longest = 0

    def work_off() -> None:
        nonlocal longest
        while not over.is_set():
            longest = max(longest, store.llen(BULK))
            store.rpop(BULK)
            time.sleep(0.02)

    over = threading.Event()
    worker = threading.Thread(target=work_off)
    worker.start()
    done = client.enqueue_many(many(6000), max_queue_length=3)
    over.set()
    worker.join()
    assert (done.requests, done.messages) == (6000, 12)
    assert done.waited > 0
    assert longest <= 3
    with pytest.raises(ValueError, match="max_queue_length must be at least 1"):
        client.enqueue_many([], max_queue_length=0)


def test_closing_ends_the_wait_for_a_full_queue(client: Either, store: Any) -> None:
    def looks() -> int:
        return int(store.info("commandstats").get("cmdstat_llen", {"calls": 0})["calls"])

    def close_while_it_waits() -> None:
        until(lambda: True if looks() >= before + 2 else None)
        client.close()

    before = looks()
    closing = threading.Thread(target=close_while_it_waits)
    closing.start()
    with pytest.raises(ClosedError) as raised:
        client.enqueue_many(many(2000), max_queue_length=1)
    closing.join()
    assert "500 requests in 1 messages had been pushed" in raised.value.__notes__


def test_requests_before_a_bad_one_are_pushed(client: Either, store: Any) -> None:
    with pytest.raises(InvalidRequestError, match="opay_token") as raised:
        client.enqueue_many([*many(700), {"opay_token": f"{TOKEN}\n"}, *many(700)])
    assert raised.value.index == 700
    assert TOKEN not in "".join(traceback.format_exception(raised.value))
    assert store.llen(BULK) == 2

    def broken() -> Iterator[Any]:
        yield from many(3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        client.enqueue_many(broken())
    assert store.llen(BULK) == 3


def test_an_async_iterable_is_taken_too(store: Any, redis_server: RedisServer) -> None:
    async def each() -> Any:
        for request in many(501):
            yield request

    async def push() -> Progress:
        async with AsyncClient(redis_server.url) as client:
            return await client.enqueue_many(each())

    assert asyncio.run(push()).requests == 501
    assert store.llen(BULK) == 2


def test_threads_share_a_client(client: Either, store: Any) -> None:
    receipts: list[str] = []

    def push() -> None:
        for _ in range(25):
            receipts.append(client.enqueue({"opay_token": TOKEN}).task_id)  # noqa: PERF401 - one by one, as they come

    threads = [threading.Thread(target=push) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pushed = [json.loads(entry)["headers"]["id"] for entry in store.lrange(INTERACTIVE, 0, -1)]
    assert sorted(pushed) == sorted(receipts)
    assert len(set(pushed)) == 200


def test_a_refused_push_says_why_and_shows_nothing(client: Either, store: Any) -> None:
    store.set(BULK, "of another type")
    with pytest.raises(RedisRefusedError, match="Redis refused LPUSH: WRONGTYPE") as raised:
        client.enqueue_many(many(10), max_queue_length=None)
    assert raised.value.code == "WRONGTYPE"
    assert "token-" not in "".join(traceback.format_exception(raised.value))


def test_a_command_that_redis_does_not_know_quotes_no_card_token(make: Make) -> None:
    with RedisServer(extra={"rename-command": 'LPUSH ""'}) as server:
        client = make(server.url)
        with pytest.raises(RedisRefusedError, match="unknown command") as raised:
            client.enqueue({"opay_token": TOKEN})
        assert len(str(raised.value)) < 80
        client.close()


def test_a_redis_that_is_not_there_is_told_after_a_while(make: Make) -> None:
    client = make("redis://127.0.0.1:1/0", retry_for=0.15)
    calls: list[Callable[[], object]] = [
        lambda: client.enqueue({"opay_token": TOKEN}),
        lambda: client.lookup({"opay_token": TOKEN}, 5),
        lambda: next(client.results(group="till", consumer="1")),
    ]
    for call in calls:
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError, match="check the URL") as raised:
            call()
        assert time.monotonic() - began < 2
        assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_a_wrong_password_is_told_at_once(make: Make) -> None:
    with RedisServer(password="sesame-1") as server:
        client = make(server.url.replace("sesame-1", "sesame-2"))
        with pytest.raises(RedisRefusedError, match="check user and password") as raised:
            client.enqueue({"opay_token": TOKEN})
        assert raised.value.code == "NOAUTH"
        assert "sesame" not in "".join(traceback.format_exception(raised.value))
        client.close()


# --- connections


def test_a_client_of_ones_own_is_used_and_left_open(store: Any, redis_server: RedisServer) -> None:
    for protocol in (2, 3):
        for decode in (False, True):
            own = redis.Redis.from_url(redis_server.url, protocol=protocol, decode_responses=decode)
            store.delete(STREAM)
            publish(store, result(1), result(2))
            with Client(own) as client:
                assert ids(client.results(group="till", consumer="1", follow=False)) == ["lookup-1", "lookup-2"]
            assert own.ping()
            own.close()


def test_an_async_client_of_ones_own_is_used_and_left_open(store: Any, redis_server: RedisServer) -> None:
    async def read(protocol: int, decode: bool) -> list[str]:
        own: Any = redis.asyncio.Redis.from_url(redis_server.url, protocol=protocol, decode_responses=decode)
        async with AsyncClient(own) as client:
            found = [each.lookup_id async for each in client.results(group="till", consumer="1", follow=False)]
        assert await own.ping()
        await own.aclose()
        return found

    for protocol in (2, 3):
        for decode in (False, True):
            store.delete(STREAM)
            publish(store, result(1), result(2))
            assert asyncio.run(read(protocol, decode)) == ["lookup-1", "lookup-2"]


def test_closing_leaves_no_connection(client: Either, store: Any) -> None:
    def connections() -> list[Any]:
        return [each for each in store.client_list() if each["name"] == "cardtoken"]

    client.enqueue({"opay_token": TOKEN})
    assert connections()
    client.close()
    client.close()
    until(lambda: True if not connections() else None)
    calls: list[Callable[[], object]] = [
        lambda: client.enqueue({"opay_token": TOKEN}),
        lambda: client.enqueue_many(many(3)),
        lambda: client.lookup({"opay_token": TOKEN}),
        lambda: client.results(group="till", consumer="1"),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match="make a new one"):
            call()


def test_waiting_calls_end_soon_after_the_client_is_closed(client: Either, store: Any) -> None:
    ended: dict[str, float] = {}
    errors: list[BaseException] = []

    def look_up() -> None:
        try:
            client.lookup({"opay_token": TOKEN}, 60)
        except ClosedError as error:
            errors.append(error)
        ended["lookup"] = time.monotonic()

    def read() -> None:
        assert list(client.results(group="till", consumer="1")) == []
        ended["results"] = time.monotonic()

    threads = [threading.Thread(target=look_up), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    until(lambda: True if store.info("clients")["blocked_clients"] == 2 else None)
    closed = time.monotonic()
    client.close()
    for thread in threads:
        thread.join(10)
    assert max(ended.values()) - closed < 2
    assert len(errors) == 1
    until(lambda: True if not [c for c in store.client_list() if c["name"] == "cardtoken"] else None)


@pytest.mark.parametrize("kind", [Client, AsyncTwin])
def test_an_address_that_is_none_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="redis://, rediss://"):
        kind("http://127.0.0.1")
    with pytest.raises(ValueError, match="sentinel_master"):
        kind("sentinel://127.0.0.1:1/0")
    with pytest.raises(TypeError, match=r"takes a URL or a redis.*Redis, not object"):
        kind(object())


def test_a_unix_socket_is_an_address(make: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    with RedisServer(extra={"unixsocket": str(folder / "r.sock")}) as server:
        client = make(f"unix://{folder / 'r.sock'}?db=0")
        client.enqueue({"opay_token": TOKEN})
        with redis.Redis.from_url(server.url) as store:
            assert store.llen(INTERACTIVE) == 1
        client.close()


# --- looking up without a worker


def test_no_answer_in_time_is_an_error_and_leaves_no_queue(client: Either, store: Any) -> None:
    began = time.monotonic()
    with pytest.raises(
        LookupTimeoutError, match=rf"within 0.4 s: check that a worker consumes {INTERACTIVE}"
    ) as raised:
        client.lookup({"opay_token": TOKEN, "lookup_id": "mine"}, 0.4)
    assert 0.35 < time.monotonic() - began < 2
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.lookup_id == "mine"
    assert TOKEN not in "".join(traceback.format_exception(raised.value))
    assert store.keys() == [INTERACTIVE.encode()]


def test_a_lookup_cannot_go_to_another_queue_too(client: Either, store: Any) -> None:
    with pytest.raises(InvalidRequestError, match="reply_to"):
        client.lookup({"opay_token": TOKEN, "reply_to": "till"})
    with pytest.raises(ValueError, match="timeout must be more than 0"):
        client.lookup({"opay_token": TOKEN}, 0)
    assert store.keys() == []


# --- reading


def test_handled_results_are_acknowledged_and_none_comes_twice(client: Either, store: Any) -> None:
    publish(store, *map(result, range(250)))
    read = ids(client.results(group="till", consumer="1", follow=False))
    assert read == [f"lookup-{number}" for number in range(250)]
    assert pending(store) == 0
    assert ids(client.results(group="till", consumer="1", follow=False)) == []
    assert len(ids(client.results(group="another", consumer="1", follow=False))) == 250


def test_a_result_in_hand_when_the_loop_failed_comes_again(client: Either, store: Any) -> None:
    publish(store, *map(result, range(5)))
    handled = []

    def fail_on(name: str) -> None:
        with client.results(group="till", consumer="1", follow=False) as results:
            for each in results:
                if each.lookup_id == name:
                    raise OSError("no room for it")
                handled.append(each.lookup_id)

    with pytest.raises(OSError, match="no room for it"):
        fail_on("lookup-2")
    assert handled == ["lookup-0", "lookup-1"]
    assert pending(store) == 3
    assert ids(client.results(group="till", consumer="1", follow=False)) == ["lookup-2", "lookup-3", "lookup-4"]
    assert pending(store) == 0


def test_before_acknowledging_is_called_before_each_acknowledgement(client: Either, store: Any) -> None:
    publish(store, *map(result, range(250)))
    seen: list[int] = []

    def sync() -> None:
        seen.append(pending(store))

    read = ids(client.results(group="till", consumer="1", follow=False, before_acknowledging=sync))
    assert (len(read), pending(store)) == (250, 0)
    assert seen
    assert len(seen) < 10, "once for many"
    assert min(seen) > 0, "each before the acknowledgement"

    def fail() -> None:
        raise OSError("no room for it")

    publish(store, result())
    with pytest.raises(OSError, match="no room for it"):
        ids(client.results(group="till", consumer="1", follow=False, before_acknowledging=fail))
    assert pending(store) == 1


def test_a_refusal_that_may_pass_is_waited_out_once_redis_was_reached(client: Either, store: Any) -> None:
    publish(store, result(1))
    results = client.results(group="till", consumer="1")
    assert next(results).lookup_id == "lookup-1"
    store.execute_command("ACL", "SETUSER", "default", "-xreadgroup")
    try:
        publish(store, result(2))
        threading.Timer(0.5, store.execute_command, ("ACL", "SETUSER", "default", "+@all")).start()
        assert next(results).lookup_id == "lookup-2"
        store.execute_command("ACL", "SETUSER", "default", "-xreadgroup")
        with pytest.raises(RedisRefusedError, match="needs more permissions"):
            next(client.results(group="till", consumer="2", follow=False))
    finally:
        store.execute_command("ACL", "SETUSER", "default", "+@all")


def test_a_block_that_is_left_early_has_handled_what_was_in_hand(client: Either, store: Any) -> None:
    publish(store, *map(result, range(3)))
    with client.results(group="till", consumer="1") as results:
        for each in results:
            if each.lookup_id == "lookup-1":
                break
    assert pending(store) == 1
    with client.results(group="till", consumer="1") as results:
        assert next(results).lookup_id == "lookup-2"
    assert pending(store) == 0


def test_a_loop_without_a_block_acknowledges_all_but_what_was_in_hand(store: Any, redis_server: RedisServer) -> None:
    publish(store, *map(result, range(3)))
    with Client(redis_server.url) as client:
        for each in client.results(group="till", consumer="1"):
            if each.lookup_id == "lookup-1":
                break
        assert pending(store) == 2

    async def read() -> None:
        async with AsyncClient(redis_server.url) as twin:
            async for each in twin.results(group="till", consumer="1"):
                if each.lookup_id == "lookup-2":
                    break
            await asyncio.to_thread(until, lambda: True if pending(store) == 1 else None)

    asyncio.run(read())


def test_slow_handling_is_acknowledged_as_it_goes(plain: Client, store: Any) -> None:
    publish(store, *map(result, range(10)))
    results = plain.results(group="till", consumer="1")
    for _ in range(3):
        next(results)
        time.sleep(0.4)
    next(results)
    assert pending(store) <= 8


def test_a_dead_consumers_results_are_taken_over(client: Either, store: Any) -> None:
    publish(store, *map(result, range(30)))
    store.xgroup_create(STREAM, "till", id="0")
    store.xreadgroup("till", "dead", {STREAM: ">"}, count=25)
    results = client.results(group="till", consumer="alive", claim_idle=0.5, batch=10)
    found = [next(results).lookup_id for _ in range(5)]
    assert found == [f"lookup-{number}" for number in range(25, 30)], "no consumer waits for the dead"
    found = [next(results).lookup_id for _ in range(25)]
    assert found == [f"lookup-{number}" for number in range(25)]
    client.close()
    assert list(results) == []
    assert pending(store) == 0


def test_a_slow_consumer_handles_nothing_that_was_taken_over_meanwhile(
    make: Make, store: Any, redis_server: Any
) -> None:
    publish(store, *map(result, range(10)))
    slow = make(redis_server.url).results(group="till", consumer="slow", claim_idle=0.4)
    other = make(redis_server.url).results(group="till", consumer="other", claim_idle=0.4, follow=False)
    first = next(slow).lookup_id
    time.sleep(0.6)
    # What the other takes over, all of it, the slow one has in its batch; handled by now is the first.
    taken = [next(other).lookup_id for _ in range(10)]
    assert taken == [f"lookup-{number}" for number in range(10)]
    publish(store, result(99))
    assert (first, next(slow).lookup_id) == ("lookup-0", "lookup-99")


def test_a_batch_that_waited_long_is_still_ones_own(plain: Client, store: Any) -> None:
    publish(store, *map(result, range(6)))
    results = plain.results(group="till", consumer="1", claim_idle=0.2, follow=False)
    found = []
    for each in results:
        found.append(each.lookup_id)
        time.sleep(0.12)
    assert found == [f"lookup-{number}" for number in range(6)]
    assert pending(store) == 0


def test_entries_that_are_gone_are_passed_over(client: Either, store: Any) -> None:
    entries = publish(store, *map(result, range(4)))
    store.xgroup_create(STREAM, "till", id="0")
    store.xreadgroup("till", "1", {STREAM: ">"})
    store.xdel(STREAM, entries[0], entries[2])
    assert ids(client.results(group="till", consumer="1", follow=False)) == ["lookup-1", "lookup-3"]
    assert pending(store) == 0
    publish(store, *map(result, range(10, 13)))
    store.xreadgroup("till", "dead", {STREAM: ">"})
    store.xtrim(STREAM, maxlen=1, approximate=False)
    time.sleep(0.15)
    assert ids(client.results(group="till", consumer="1", follow=False, claim_idle=0.1)) == ["lookup-12"]
    assert pending(store) == 0


def test_newer_fields_and_words_are_read_over(client: Either, store: Any) -> None:
    token = {"value": TOKEN, "brand": "a-new-brand", "wallet": {"kind": "new"}, "customer": {"id": "1", "born": "…"}}
    publish(store, result(1, status="found", token=token, risk={"score": 7}))
    store.xadd(STREAM, {"result": json.dumps(result(2)), "a-new-field": b"\xff"})
    first, second = client.results(group="till", consumer="1", follow=False)
    assert first.token is not None
    assert (first.token.brand, first.token.customer.id if first.token.customer else None) == ("a-new-brand", "1")
    assert second.lookup_id == "lookup-2"
    assert TOKEN not in f"{first!r}{first}"
    assert first.token.value.get_secret_value() == TOKEN


JUNK = [{b"result": b"\xff\xfe"}, {b"other": TOKEN.encode()}, {b"result": b'{"lookup_id": "' + TOKEN.encode() + b'"}'}]


def test_an_entry_that_is_not_a_result_is_logged_and_passed_over(
    client: Either, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, result(1))
    for junk in JUNK:
        store.xadd(STREAM, junk)
    publish(store, result(2))
    with caplog.at_level(logging.WARNING, "cardtoken"):
        assert ids(client.results(group="till", consumer="1", follow=False)) == ["lookup-1", "lookup-2"]
    assert caplog.text.count("something else writes to this result queue") == len(JUNK)
    assert TOKEN not in caplog.text
    assert pending(store) == 0


def test_results_of_a_later_schema_are_left_to_those_who_can_read_them(
    client: Either, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, result(1, schema_version=2), {"schema_version": 3, "id": "x"}, result(2))
    with caplog.at_level(logging.WARNING, "cardtoken"):
        assert ids(client.results(group="till", consumer="1", follow=False)) == ["lookup-2"]
    assert "schema version 2" in caplog.text
    assert "schema version 3" in caplog.text
    assert pending(store) == 2


def test_a_loop_can_be_told_to_stop(client: Either, store: Any) -> None:
    stop = threading.Event()
    publish(store, *map(result, range(3)))
    found = []
    for each in client.results(group="till", consumer="1", stop=stop, block=0.1):
        found.append(each.lookup_id)
        if each.lookup_id == "lookup-1":
            stop.set()
    assert found == ["lookup-0", "lookup-1"]
    assert pending(store) == 1
    threading.Timer(0.3, stop.set).start()
    stop.clear()
    assert ids(client.results(group="till", consumer="1", stop=stop, block=0.1)) == ["lookup-2"]


def test_a_new_group_may_begin_with_what_comes(client: Either, store: Any) -> None:
    publish(store, result(1))
    found: list[str] = []
    results = client.results(group="till", consumer="1", start="$")
    reader = threading.Thread(target=lambda: found.append(next(results).lookup_id))
    reader.start()
    until(lambda: True if store.info("clients")["blocked_clients"] else None)
    publish(store, result(2))
    reader.join(10)
    assert found == ["lookup-2"]


@pytest.mark.parametrize(
    "wrong", [{"group": ""}, {"consumer": ""}, {"batch": 0}, {"block": 0}, {"claim_idle": 0}, {"reply_to": "a b"}]
)
def test_a_subscription_that_cannot_be_is_refused(client: Either, store: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|batch|block|group"):
        client.results(**{"group": "till", "consumer": "1", **wrong})


def test_a_queue_of_another_type_is_told(client: Either, store: Any) -> None:
    store.set(STREAM, "of another type")
    with pytest.raises(RedisRefusedError, match="WRONGTYPE"):
        next(client.results(group="till", consumer="1"))
