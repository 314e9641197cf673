"""What a gateway does to kept connections: no lookup ends for it, and no lookup gets another's card."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from cardtoken.contract import Category
from sandbox.raw_server import Peer, RawServer
from sandbox.redis_server import RedisServer
from sandbox.service import Simulator
from tasks.lookups.lookup import Settled
from tasks.lookups.outcomes import Failure, Found
from tests.calls import Engines, http_client, read, run, sent

COUNT = 400
MANY = 40
FIELD = {"opay": "opay_token", "afterpay": "original_request_id"}


def last4(reference: str) -> str:
    """The card behind a reference."""
    return f"{int(hashlib.sha256(reference.encode()).hexdigest(), 16) % 10_000:04}"


def whole(answer: object) -> bytes:
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def answer_to(request: bytes) -> bytes:
    """What the provider says."""
    head, _, body = request.partition(b"\r\n\r\n")
    url = head.split()[1].decode()
    if url.endswith("/oauth2/token"):
        return whole({"access_token": "a", "token_type": "Bearer", "expires_in": 3600})
    if "verification" in url:
        (asked,) = parse_qs(urlsplit(url).query)["originalRequestId"]
        return whole({"id": f"id-{asked}", "receiptId": "1", "token": f"token-{asked}", "last4Digits": last4(asked)})
    asked = json.loads(body)["opayToken"]
    data = {"opayToken": asked, "brand": "VISA", "lastFourDigits": last4(asked)}
    return whole({"code": "00000", "message": "SUCCESSFUL", "data": data})


def at_once(peer: Peer) -> None:
    """Say each fifth answer twice in one breath."""
    number = 0
    while request := peer.request():
        number += 1
        peer.send(answer_to(request) * (2 if number % 5 == 0 else 1))


def later(peer: Peer) -> None:
    """Repeat an answer only when the next request is there, so that nothing shows before."""
    before, number = b"", 0
    while request := peer.request():
        number += 1
        answer = answer_to(request)
        peer.send(before + answer if number % 5 == 0 else answer)
        before = answer


def much_later(peer: Peer) -> None:
    """Repeat the first answer of a connection after some others."""
    first, number = b"", 0
    while request := peer.request():
        number += 1
        answer = answer_to(request)
        first = first or answer
        peer.send(first + answer if number == 5 else answer)


def swallow(peer: Peer) -> None:
    """Take a request, and say no more."""
    peer.request()
    peer.wait(30)


def reset(peer: Peer) -> None:
    peer.request()
    peer.reset()


@pytest.fixture
def engines(redis_server: RedisServer) -> Iterator[Callable[[RawServer], Engines]]:
    with redis.Redis.from_url(redis_server.url) as client, http_client(connections=8, total=20) as http:
        # Of a simulator they want nothing but where it is.
        yield lambda server: Engines(cast("Simulator", server), http, client)


@pytest.mark.parametrize("fate", [swallow, reset])
@pytest.mark.parametrize("provider", ["opay", "afterpay"])
def test_forgotten_connections_cost_no_attempt_and_open_no_circuit(
    redis_server: RedisServer, provider: str, fate: Callable[[Peer], None]
) -> None:
    forgotten = threading.Event()
    together = threading.Barrier(MANY)

    def gateway(peer: Peer) -> None:
        before = not forgotten.is_set()
        while request := peer.request():
            if b"/oauth2/token" not in request and before:
                together.wait(30)
            peer.send(answer_to(request))
            if before:
                fate(peer)
                return

    with (
        redis.Redis.from_url(redis_server.url) as client,
        http_client(connections=MANY, read=10, total=15) as http,
        RawServer(gateway) as server,
        Engines(cast("Simulator", server), http, client) as make,
    ):
        engine = make(provider, MANY, 1)
        for _ in range(2):
            asked = read(provider, *({FIELD[provider]: f"reference-{number}"} for number in range(MANY)))
            for step in run(engine, asked):
                assert isinstance(step, Settled)
                assert isinstance(step.outcome, Found)
                assert step.lookup.attempts == 1
            forgotten.set()
            (host,) = http._adapter._hosts.values()
            for connection in host.pool.pool.queue:
                if connection is not None:
                    connection.idle_since -= 5  # that much later
        assert engine.admission.seconds_until_trial() is None


@pytest.mark.parametrize("proxy", [at_once, later, much_later])
@pytest.mark.parametrize("provider", ["opay", "afterpay"])
def test_a_repeated_answer_is_no_other_lookups(
    engines: Callable[[RawServer], Engines], provider: str, proxy: Callable[[Peer], None]
) -> None:
    with RawServer(proxy) as server, engines(server) as make:
        asked = read(provider, *({FIELD[provider]: f"reference-{number}"} for number in range(COUNT)))
        steps = run(make(provider), asked)
        wrong = [step for step in steps if not isinstance(step, Settled) or not isinstance(step.outcome, Found)]
        assert wrong == []
        for step in steps:
            assert isinstance(step, Settled)
            assert isinstance(step.outcome, Found)
            assert step.outcome.token.last4 == last4(sent(step.lookup))
            assert step.lookup.attempts == 1
        assert server.accepted > 8


@pytest.mark.parametrize("provider", ["opay", "afterpay"])
def test_connections_without_fault_are_kept(engines: Callable[[RawServer], Engines], provider: str) -> None:
    def honest(peer: Peer) -> None:
        while request := peer.request():
            peer.send(answer_to(request))

    with RawServer(honest) as server, engines(server) as make:
        # The same reference is answered with the same id, again and again, and rightly so.
        asked = read(provider, *({FIELD[provider]: f"reference-{number % 3}"} for number in range(100)))
        assert all(isinstance(step, Settled) and isinstance(step.outcome, Found) for step in run(make(provider), asked))
        assert server.accepted <= 8 + 1  # one for the access token


def test_a_provider_that_always_names_another_token_is_asked_twice_and_no_more(
    engines: Callable[[RawServer], Engines],
) -> None:
    def confused(peer: Peer) -> None:
        while peer.request():
            peer.send(answer_to(b'POST / HTTP/1.1\r\n\r\n{"opayToken": "another"}'))

    with RawServer(confused) as server, engines(server) as make:
        (step,) = run(make("opay"), read("opay", {"opay_token": "mine"}))
        assert isinstance(step, Settled)
        assert isinstance(step.outcome, Failure)
        assert step.outcome.category is Category.PROTOCOL
        assert (step.lookup.attempts, len(server.requests), server.accepted) == (1, 2, 2)
