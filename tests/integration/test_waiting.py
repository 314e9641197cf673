"""How many lookups wait: counted within one percent, whoever pushed them and however they are mixed."""

import bz2
import json
import random
import textwrap
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from redis import Redis

from cardtoken import Client, keys
from cardtoken.contract import Lane
from cardtoken.message import message_of, prepared
from cardtoken.status import look
from cardtoken.waiting import PAUSE, QueueCount, WaitingLookups, lists_of, recount, share
from sandbox.messages import encoded, entry, entry_1, plain, push, raw, requests_of, with_headers
from sandbox.processes import start
from sandbox.redis_server import RedisServer, free_port
from sandbox.waiting import until
from tasks.stores.waiting import WaitingCounter
from tests.cli.terminal import CARDTOKEN, environment
from tests.telemetry.test_metrics import scraped, value

QUEUE = "lookup.opay.bulk"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Any]:
    with Redis.from_url(server.url) as client:
        client.flushall()
        yield client


def counted(redis: Any, queue: str = QUEUE) -> int | None:
    (found,) = [each for each in look(redis).queues if each.name == queue]
    return found.lookups


def drawn(seed: object = 1) -> random.Random:
    return random.Random(repr(seed))  # noqa: S311 - the same each time


def asked(count: int, chance: random.Random) -> list[Any]:
    """So many requests of different lengths."""
    return [
        {
            "opay_token": f"OPAY_TOKEN_{chance.getrandbits(8 * chance.randint(1, 16)):x}",
            **({"metadata": {"opay": "t" * chance.randint(0, 60)}} if chance.random() < 0.3 else {}),
        }
        for _ in range(count)
    ]


def of_celery(requests: list[Any], number: int) -> bytes:
    return raw(entry("opay", f"task-{number}", requests))


def of_celery_1(requests: list[Any], number: int) -> bytes:
    return raw(entry_1("opay", f"task-{number}", requests))


def of_our_client(requests: list[Any], number: int) -> bytes:
    from datetime import UTC, datetime

    made = [prepared(each, datetime.now(UTC)) for each in requests]
    return message_of(made, Lane.BULK, f"task-{number}").entry


def of_another_language(requests: list[Any], number: int) -> bytes:
    """Without spaces, the headers first, with what is asked for repeated in a header, and slashes escaped."""
    body = json.dumps([[], {"requests": requests}, {}], separators=(",", ":")).encode()
    message = plain({"requests": requests}, task_id=f"task-{number}", body=encoded(body))
    shown = with_headers(message, kwargsrepr=json.dumps({"requests": requests}))
    return json.dumps(dict(reversed(shown.items())), separators=(",", ":")).replace("/", "\\/").encode()


def compressed(requests: list[Any], number: int) -> bytes:
    message = entry("opay", f"task-{number}", requests)
    body = json.dumps([[], {"requests": requests}, {}]).encode()
    name, packed = [("application/x-gzip", zlib.compress(body)), ("application/x-bz2", bz2.compress(body))][number % 2]
    return raw(with_headers({**message, "body": encoded(packed)}, compression=name))


def in_lines(requests: list[Any], number: int) -> bytes:
    message = entry("opay", f"task-{number}", requests)
    return raw({**message, "body": "\n".join(textwrap.wrap(message["body"], 76))})


def not_encoded(requests: list[Any], number: int) -> bytes:
    message = entry("opay", f"task-{number}", requests)
    body = json.dumps([[], {"requests": requests}, {}])
    return raw({**message, "body": body, "properties": {**message["properties"], "body_encoding": None}})


MAKERS = (of_celery, of_celery_1, of_our_client, of_another_language, compressed, in_lines, not_encoded)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("sizes", [(1,), (1, 1, 7, 100, 500)])
def test_every_producers_messages_are_counted_by_their_lookups(
    redis: Any, make: Callable[[list[Any], int], bytes], sizes: tuple[int, ...]
) -> None:
    chance = drawn()
    push(redis, QUEUE, [make(asked(size, chance), number) for number, size in enumerate(sizes)])
    assert counted(redis) == sum(sizes)


@pytest.mark.parametrize("mix", ["singles", "lists", "mixed", "of all producers"])
def test_a_hundred_thousand_lookups_are_counted_within_one_percent(redis: Any, mix: str) -> None:
    chance = drawn(mix)
    # What a request says does not matter here, and to make a hundred thousand takes long.
    made = {size: [of_celery(asked(size, chance), number) for number in range(50)] for size in (1, 100)}
    sizes = {"singles": [1] * 100_000, "lists": [100] * 1000, "mixed": [1] * 50_000 + [100] * 500}.get(mix)
    if sizes is None:
        sizes = [1] * 20_000 + [100] * 500 + [20] * 1500
        made = {size: [make(asked(size, chance), 1) for make in MAKERS for _ in range(5)] for size in (1, 20, 100)}
    chance.shuffle(sizes)
    push(redis, QUEUE, [chance.choice(made[size]) for size in sizes])
    assert abs((counted(redis) or 0) - sum(sizes)) <= sum(sizes) / 100


def test_of_a_queue_longer_than_is_read_a_part_stands_for_the_whole(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cardtoken.waiting.MOST_READ", 10_000)
    monkeypatch.setattr("cardtoken.waiting._PART", 50)
    chance = drawn()
    singles, lists = of_celery(asked(1, chance), 1), of_celery(asked(10, chance), 2)
    push(redis, QUEUE, [lists] * 10_000 + [singles] * 20_000)
    assert abs((counted(redis) or 0) - 120_000) <= 1_500


def test_what_could_be_taken_is_counted_in_every_place_it_can_wait_in(redis: Any) -> None:
    chance = drawn()
    for number, name in enumerate((QUEUE, f"{QUEUE}:3", f"{QUEUE}\x06\x169", f"{QUEUE}|7")):
        redis.lpush(name, of_celery(asked(10 * (number + 1), chance), number))
    redis.hset(keys.OTHER_LISTS, f"{QUEUE}|7", QUEUE)
    now = redis.time()[0] * 1000
    for claim, lookups in (("back", 3), ("due", 5), ("later", 500)):
        redis.hset(keys.claim(claim), mapping={"queue": QUEUE, "entry": of_celery(asked(lookups, chance), 9)})
    redis.rpush(keys.given_back(QUEUE), "back")
    redis.zadd(keys.delayed(QUEUE), {"due": now - 5, "later": now + 60_000})
    assert counted(redis) == 10 + 20 + 30 + 40 + 3 + 5


def test_what_is_no_message_counts_as_one_and_breaks_nothing(redis: Any) -> None:
    garbage: list[bytes] = [
        *(
            b"",
            b"{",
            b"null",
            b"[1]",
            b'{"body": 1}',
            b'{"body": "W10="}',
            b"\xff\xfe",
            b"x" * (2 << 20),
            b"[" * 50_000,
        ),
        b'{"body": "!", "properties": {"body_encoding": "base64"}}',
        b'{"body": "eA==", "headers": {"compression": "gzip"}, "properties": {"body_encoding": "base64"}}',
        b'{"body": "eA==", "headers": {"compression": []}, "properties": {"body_encoding": "base64"}}',
        b'{"body": "e30=", "properties": null}',
    ]
    push(redis, QUEUE, [*garbage, of_celery(asked(7, drawn()), 1)])
    redis.rpush(keys.given_back(QUEUE), "a claim that is gone")
    assert counted(redis) == len(garbage) + 1 + 7


def test_keys_of_another_type_hold_nothing(redis: Any) -> None:
    redis.set(f"{QUEUE}:3", "another program's")
    found = recount(redis, {QUEUE: lists_of(QUEUE, [])}, {})
    assert found[QUEUE].messages == 0


def test_an_empty_queue_has_none_at_once(redis: Any) -> None:
    waiting = WaitingLookups(redis)
    assert [each.lookups for each in look(redis, waiting).queues] == [0, 0, 0, 0]
    lists = [of_celery(asked(10, drawn()), number) for number in range(4)]
    push(redis, QUEUE, lists)
    share(redis, recount(redis, {QUEUE: [QUEUE]}, {}))
    assert counted(redis) == 40
    redis.rpop(QUEUE)
    assert counted(redis) == 30, "between two counts it goes with the messages"
    redis.delete(QUEUE)
    assert counted(redis) == 0


def test_a_count_that_takes_long_is_made_rarely(redis: Any) -> None:
    names = ("slow", "quick")
    queues = {name: [name] for name in names}
    at = redis.time()[0]

    def renewed(age: float) -> set[str]:
        known = {"slow": QueueCount(9, 9, 0.3, at - age), "quick": QueueCount(9, 9, 0.0001, at - age)}
        return {name for name, each in recount(redis, queues, known).items() if each.at != at - age}

    assert renewed(0) == set()
    assert renewed(PAUSE + 1) == {"quick"}
    assert renewed(60) == {"quick", "slow"}
    assert renewed(-60) == {"quick", "slow"}, "Redis' clock went back"


def test_one_of_the_fleet_counts_for_all(redis: Any) -> None:
    redis.lpush(QUEUE, of_celery(asked(10, drawn()), 1))
    one, another = (
        WaitingCounter(redis, [QUEUE], threading.Event()),
        WaitingCounter(redis, [QUEUE], threading.Event()),
    )
    one.count_for_all()
    assert json.loads(redis.get(keys.WAITING))[QUEUE][:2] == [1, 10]
    redis.delete(keys.WAITING)
    another.count_for_all()
    assert redis.get(keys.WAITING) is None
    one.count_for_all()
    assert redis.get(keys.WAITING) is None, "nor does the same one, so soon"
    redis.delete(keys.WAITING_LOCK)
    one.count_for_all()
    assert 0 < redis.pttl(keys.WAITING_LOCK) <= PAUSE * 1000
    redis.delete(keys.WAITING_LOCK)
    writes = redis.info("commandstats")["cmdstat_lrange"]["calls"]
    another.count_for_all()
    assert redis.info("commandstats")["cmdstat_lrange"]["calls"] == writes, "nothing was due"


def test_a_worker_that_stops_ends_its_count_and_leaves_it_to_the_next(redis: Any) -> None:
    redis.lpush(QUEUE, of_celery(asked(10, drawn()), 1))
    stopping = threading.Event()
    stopping.set()
    WaitingCounter(redis, [QUEUE], stopping).count_for_all()
    assert redis.get(keys.WAITING) is None
    until(lambda: None if redis.exists(keys.WAITING_LOCK) else True)


def test_the_exporter_has_it_without_a_worker_and_writes_nothing(server: RedisServer, redis: Any) -> None:
    push(redis, QUEUE, [of_celery(asked(100, drawn()), number) for number in range(10)])
    redis.lpush("lookup.afterpay.interactive", raw(entry("afterpay", "a", requests_of("afterpay", ["visa"]))))
    port = free_port()
    exporter = start([*CARDTOKEN, "metrics", "--port", str(port)], env=environment(server.url))
    try:

        def waiting() -> Any:
            try:
                return requests.get(f"http://127.0.0.1:{port}/waiting", timeout=5)
            except requests.ConnectionError:
                return None

        document = until(waiting).json()
        assert (document["bulk"]["lookups"], document["interactive"]["lookups"]) == (1000, 1)
        assert document["bulk"]["queues"][QUEUE] == 1000
        samples = scraped(port)
        assert value(samples, "cardtoken_queue_lookups", queue=QUEUE) == 1000
        assert value(samples, "cardtoken_queue_lookups", queue="lookup.opay.interactive") == 0
        assert sorted(redis.keys()) == [b"lookup.afterpay.interactive", QUEUE.encode()]
        assert requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
        exporter.terminate()
        assert exporter.wait(10) == 0
    finally:
        exporter.stop()


def test_the_exporter_says_where_redis_cannot_be_asked() -> None:
    port = free_port()
    exporter = start([*CARDTOKEN, "metrics", "--port", str(port)], env=environment(f"redis://127.0.0.1:{free_port()}"))
    try:

        def answer() -> requests.Response | None:
            try:
                return requests.get(f"http://127.0.0.1:{port}/waiting", timeout=15)
            except requests.ConnectionError:
                return None

        assert until(answer).status_code == 503
        assert value(scraped(port), "cardtoken_redis_up") == 0
    finally:
        exporter.stop()


def test_a_producers_own_client_is_counted(server: RedisServer, redis: Any) -> None:
    with Client(server.url) as client:
        client.enqueue_many([{"opay_token": f"OPAY_TOKEN_{number}"} for number in range(501)], lane="bulk")
    assert counted(redis) == 501
