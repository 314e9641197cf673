"""Connections to Redis, when what they lead to goes silent, hangs, or is the wrong thing."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from cardtoken import bounded, names
from cardtoken.connection import Endpoint
from sandbox.faulty_proxy import Fault, FaultyProxy
from sandbox.messages import raw, wrapped
from sandbox.redis_server import RedisServer
from sandbox.waiting import until
from tasks.broker import channel
from tasks.broker.connection import amqp_of

#: Seconds. None of these tests measures: each would hang without its bound, and is ended by pytest's own then.
QUICK = 0.2


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[FaultyProxy]:
    assert redis_server.port is not None
    with FaultyProxy(redis_server.port) as proxy:
        yield proxy


def use_many(client: redis.Redis, count: int) -> None:
    """Leave so many idle connections in the client's pool."""
    pool = client.connection_pool
    for connection in [pool.get_connection() for _ in range(count)]:
        pool.release(connection)


def test_one_silent_connection_condemns_the_idle_ones(proxy: FaultyProxy) -> None:
    with closing(Endpoint(proxy.url, socket_timeout=QUICK).connect()) as client:
        use_many(client, 20)
        proxy.silence()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        pool: Any = client.connection_pool
        for connection in [pool.get_connection() for _ in range(20)]:
            connection.send_command("PING")
            assert connection.read_response() == b"PONG"
            pool.release(connection)


def test_connections_of_two_pools_of_a_process_are_condemned_together(proxy: FaultyProxy) -> None:
    endpoint = Endpoint(proxy.url, socket_timeout=QUICK)
    with closing(endpoint.connect()) as one, closing(endpoint.connect()) as other:
        use_many(one, 2)
        use_many(other, 2)
        proxy.silence()
        with pytest.raises(redis.TimeoutError):
            one.ping()
        assert other.ping()


def test_an_asyncio_client_condemns_its_idle_connections_too(proxy: FaultyProxy) -> None:
    async def main() -> None:
        client = Endpoint(proxy.url, socket_timeout=QUICK).connect_async()
        pool: Any = client.connection_pool
        for connection in [await pool.get_connection() for _ in range(5)]:
            await pool.release(connection)
        proxy.silence()
        with pytest.raises(redis.TimeoutError):
            await client.ping()
        assert await asyncio.gather(*(client.ping() for _ in range(5))) == [True] * 5
        await client.aclose()

    asyncio.run(main())


def test_an_answer_that_ends_in_its_middle_is_not_awaited_for_ever(proxy: FaultyProxy) -> None:
    with closing(Endpoint(proxy.url, socket_timeout=QUICK).connect()) as client:
        client.set("long", b"x" * 1000)
        proxy.silence(after=500)
        with pytest.raises(redis.TimeoutError):
            client.get("long")
        # redis-py reads messages of a subscription without any bound.
        with client.pubsub() as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe("channel")
            assert subscription.get_message(timeout=5) is not None
            proxy.silence(after=10)
            client.publish("channel", "word")
            with pytest.raises(redis.TimeoutError):
                subscription.parse_response(block=True)


def test_a_server_that_accepts_and_says_nothing_is_given_up(
    proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "CONNECT_TIMEOUT", QUICK)
    proxy.fault_of_new = Fault.SILENT
    with closing(Endpoint(proxy.url, socket_timeout=60).connect()) as client, pytest.raises(redis.TimeoutError):
        client.ping()


def test_a_name_that_does_not_resolve_is_given_up_and_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups, answered = [], threading.Event()
    real = socket.getaddrinfo

    def hangs(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "hangs.invalid":
            return real(host, *args, **kwargs)
        if socket.AI_NUMERICHOST in args:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        lookups.append(host)
        answered.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"hangs\.invalid is not resolved"):
            names.resolve("hangs.invalid", 6379, 0.05)
    answered.set()
    assert len(lookups) == 1
    with pytest.raises(OSError, match="no answer"):
        until(lambda: names.resolve("hangs.invalid", 6379, 5) if not names._pending else None)


@pytest.mark.parametrize("cut_message", [False, True], ids=["silent", "silent in a message"])
def test_a_subscription_that_goes_silent_is_made_again(
    proxy: FaultyProxy, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, cut_message: bool
) -> None:
    """As Flower listens: nothing is asked on such a connection, so that nothing is ever overdue."""
    monkeypatch.setattr(channel, "HEALTH_CHECK", QUICK)
    app = Celery("listens", broker=proxy.url, amqp=amqp_of(Endpoint(proxy.url, socket_timeout=QUICK)))
    heard: set[int] = set()
    stopping = threading.Event()

    def listen() -> None:
        while not stopping.is_set():
            with suppress(redis.RedisError, OperationalError, OSError), app.connection() as connection:
                receiver = app.events.Receiver(connection, handlers={"*": lambda event: heard.add(event["number"])})
                receiver.should_stop = False
                for _ in receiver.itercapture(wakeup=False):
                    pass

    def heard_of(number: int) -> None:
        def ask() -> bool | None:
            publish(redis_server, number)
            return True if number in heard else None

        until(ask, 20, 0.05)

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    try:
        heard_of(1)
        proxy.silence(after=20 if cut_message else None)
        heard_of(2)
    finally:
        stopping.set()
        proxy.cut()
        listening.join(10)


def publish(server: RedisServer, number: int) -> None:
    """What a worker of that database would tell, were it kombu's."""
    event = {"type": "worker-x", "hostname": "h", "timestamp": 1, "number": number}
    with redis.Redis.from_url(server.url) as store:
        store.publish("/0.celeryev/worker.x", raw(wrapped(event, {})))
