"""One exchange over real sockets: connections are shared, and no server can hold one for longer than it may take."""

import contextlib
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from cardtoken.contract import Category
from sandbox.raw_server import OK, Peer, RawServer, answering, dripping
from sandbox.service import Simulator
from tasks.http.client import HttpClient
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure
from tests.calls import http_client, opay_request

DEADLINE = 0.3
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

#: What never ends → how it begins, and the piece that comes every 20 ms.
DRIPS = {
    "the status line": (b"HTTP/1.1 200 O", b"K"),
    "a header": (HEAD + b"X-Filler: ", b"x"),
    "the headers": (HEAD, b"X-Filler: x\r\n"),
    "answers that say Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "answers that say Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "the size of a chunk": (CHUNKED, b"0"),
    "a chunk": (CHUNKED + b"fffff\r\n", b" "),
    "the chunks": (CHUNKED, b"1\r\n \r\n"),
    "the trailers": (CHUNKED + b"0\r\n", b"X-Filler: x\r\n"),
    "the body": (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "a body without a length": (HEAD + b"\r\n", b" "),
}


def get(url: str) -> HttpRequest:
    return HttpRequest("GET", url, {})


def assert_times_out(http: HttpClient, url: str, within: float, until: float | None = None) -> None:
    began = monotonic()
    answer = http.send(get(url), until)
    elapsed = monotonic() - began
    assert isinstance(answer, Failure), answer
    assert answer.category is Category.TIMEOUT
    assert elapsed < within


# --- connections


def test_one_connection_serves_many_lookups() -> None:
    with RawServer(answering(OK, keep=True)) as server, http_client() as http:
        for _ in range(50):
            assert http.send(get(server.url)) == HttpResponse(200, {"content-length": "2"}, b"ok")
        assert (len(server.requests), server.accepted) == (50, 1)


def test_a_connection_is_kept_after_every_kind_of_whole_answer() -> None:
    answers = [
        OK,
        CHUNKED + b"2\r\nok\r\n0\r\nX-Trailer: x\r\n\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    ]

    def serve(peer: Peer) -> None:
        for answer in answers:
            peer.request()
            peer.send(answer)

    with RawServer(serve) as server, http_client() as http:
        got = [http.send(get(server.url)) for _ in answers]
        assert [(each.status, each.body) for each in got if isinstance(each, HttpResponse)] == [
            (200, b"ok"),
            (200, b"ok"),
            (200, b""),
            (404, b"no"),
            (204, b""),
            (200, b"ok"),
        ]
        assert server.accepted == 1


def test_many_threads_use_no_more_connections_than_there_are_threads(simulator: Simulator) -> None:
    def ask(_: int) -> int:
        answer = http.send(opay_request(simulator, "visa"))
        assert isinstance(answer, HttpResponse)
        return answer.status

    before = simulator.stats()
    with http_client(connections=16) as http, ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(400))) == {200}
    after = simulator.stats()
    assert after["requests"]["opay"] - before["requests"]["opay"] == 400
    # The second question for the counters is one of them.
    assert after["connections_accepted"] - before["connections_accepted"] <= 16 + 1


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    closed = threading.Event()

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.sock.shutdown(socket.SHUT_RDWR)
        closed.set()

    with RawServer(serve) as server, http_client() as http:
        for _ in range(5):
            closed.clear()
            assert isinstance(http.send(get(server.url)), HttpResponse)
            assert closed.wait(5)
        assert server.accepted == 5


def test_an_answer_that_comes_too_late_reaches_no_other_lookup() -> None:
    def serve(peer: Peer) -> None:
        first = peer.request()
        peer.wait(0.4 if b"/late" in first else 0)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + first.split()[1][:5])

    with RawServer(serve) as server, http_client() as http:
        assert_times_out(http, f"{server.url}/late", within=0.35, until=monotonic() + 0.2)
        answer = http.send(get(f"{server.url}/next"))
        assert isinstance(answer, HttpResponse)
        assert answer.body == b"/next"


def test_an_answer_before_the_answer_reaches_no_other_lookup() -> None:
    def serve(peer: Peer) -> None:
        while request := peer.request():
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            # Long enough for a client that took it for the answer to be at its next question.
            peer.wait(0.1)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + request.split()[1][:2])

    with RawServer(serve) as server, http_client() as http:
        answers = [http.send(get(f"{server.url}/{number}")) for number in range(3)]
        assert [each.body for each in answers if isinstance(each, HttpResponse)] == [b"/0", b"/1", b"/2"]


# --- timeouts


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a full backlog drop what comes next")
def test_connecting_takes_no_longer_than_its_timeout() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        http = stack.enter_context(http_client(connect=0.3))
        assert_times_out(http, f"http://127.0.0.1:{address[1]}", within=1)


def test_a_silent_server_is_left_after_the_read_timeout() -> None:
    with RawServer(dripping(b"", b"")) as server, http_client(read=0.3) as http:
        assert_times_out(http, server.url, within=1)


@pytest.mark.parametrize("what", DRIPS)
def test_a_server_that_drips_cannot_hold_an_exchange_past_its_deadline(what: str) -> None:
    with RawServer(dripping(*DRIPS[what])) as server, http_client(total=DEADLINE) as http:
        assert_times_out(http, server.url, within=DEADLINE + 0.5)


def test_a_flood_of_continue_ends_at_the_deadline() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        while not peer.wait(0):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)

    with RawServer(serve) as server, http_client(total=DEADLINE) as http:
        assert_times_out(http, server.url, within=DEADLINE + 0.5)


@pytest.mark.parametrize("scenario", ["drip-headers", "drip-body", "hang"])
def test_a_provider_that_drips_cannot_hold_an_exchange_past_its_deadline(simulator: Simulator, scenario: str) -> None:
    with http_client(total=DEADLINE) as http:
        began = monotonic()
        answer = http.send(opay_request(simulator, scenario))
        assert isinstance(answer, Failure)
        assert answer.category is Category.TIMEOUT
        assert monotonic() - began < DEADLINE + 0.5


def test_the_caller_can_set_an_earlier_end_but_no_later_one() -> None:
    with RawServer(dripping(HEAD + b"X-Filler: ", b"x")) as server, http_client(total=DEADLINE) as http:
        assert_times_out(http, server.url, within=DEADLINE, until=monotonic() + 0.1)
        assert_times_out(http, server.url, within=DEADLINE + 0.5, until=monotonic() + 60)


def test_after_its_end_nothing_is_sent() -> None:
    with RawServer(answering(OK, keep=True)) as server, http_client() as http:
        assert isinstance(http.send(get(server.url)), HttpResponse)
        assert_times_out(http, server.url, within=0.5, until=monotonic() - 1)
        assert len(server.requests) == 1


def test_an_exchange_with_little_time_left_leaves_the_next_its_full_time() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        peer.wait(0.5)
        peer.send(OK[:30])
        peer.wait(0.3)
        peer.send(OK[30:])

    with RawServer(serve) as server, http_client() as http:
        assert isinstance(http.send(get(server.url), monotonic() + 0.2), HttpResponse)
        assert isinstance(http.send(get(server.url)), HttpResponse)
        assert server.accepted == 1


def test_an_address_of_a_family_that_the_machine_does_not_have_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    # getaddrinfo names IPv6 addresses also where the kernel has no IPv6; only here it has to be said in its place.
    with RawServer(answering(OK)) as server, http_client() as http:
        good = socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)
        unknown = (socket.AF_APPLETALK, socket.SOCK_STREAM, 0, "", ("::1", server.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [unknown, *good])
        assert isinstance(http.send(get(server.url)), HttpResponse)
