"""Bodies: as many bytes as promised, never more than the limit, never compressed."""

import gzip
import tracemalloc
from collections.abc import Iterator
from time import monotonic

import pytest

from cardtoken.contract import Category
from sandbox.raw_server import Peer, RawServer, Serve, answering
from sandbox.service import Simulator
from tasks.http.client import HttpClient, Limits
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure
from tests.calls import http_client, opay_request

CAP = 10_000
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[HttpClient]:
    with http_client(max_body=CAP) as http:
        yield http


@pytest.fixture
def http(shared: HttpClient) -> HttpClient:
    shared.limits = Limits(connect=5, read=5, total=5, max_body=CAP)
    return shared


def get(url: str) -> HttpRequest:
    return HttpRequest("GET", url, {})


def endless(head: bytes, piece: bytes) -> Serve:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(head)
        while not peer.wait(0):
            peer.send(piece)

    return serve


ENDLESS = {
    "a length": (HEAD + b"Content-Length: 100000000000\r\n\r\n", b" " * 65536),
    "chunks": (CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "one chunk": (CHUNKED + b"fffffffffff\r\n", b" " * 65536),
    "a chunk of negative size": (CHUNKED + b"-1\r\n", b" " * 65536),
    "no length": (HEAD + b"\r\n", b" " * 65536),
    "compressed": (HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b" " * 65536)),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_body_without_end_is_left_alone_after_the_limit(http: HttpClient, what: str) -> None:
    with RawServer(endless(*ENDLESS[what])) as server:
        assert isinstance(http.send(get("http://127.0.0.1:1")), Failure)  # all modules are loaded before it counts
        tracemalloc.start()
        try:
            began = monotonic()
            answer = http.send(get(server.url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(answer, Failure)
        if what != "a chunk of negative size":
            assert answer == Failure(Category.PROTOCOL, f"the answer is larger than {CAP} bytes", http_status=200)
        # The limit, twice over while the body grows, and what sockets and the server's thread hold.
        assert peak < 1_000_000
        assert monotonic() - began < 1


@pytest.mark.parametrize("framing", ["a length", "chunks", "no length"])
@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_exact(http: HttpClient, framing: str, over: int) -> None:
    size = CAP + over
    body = b" " * size
    answer = {
        "a length": HEAD + b"Content-Length: %d\r\n\r\n" % size + body,
        "chunks": CHUNKED + b"1388\r\n" + body[:5000] + b"\r\n%x\r\n" % (size - 5000) + body[5000:] + b"\r\n0\r\n\r\n",
        "no length": HEAD + b"\r\n" + body,
    }[framing]
    with RawServer(answering(answer)) as server:
        got = http.send(get(server.url))
        assert isinstance(got, Failure if over else HttpResponse)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"GZip", b"identity, gzip", b"x-gzip", b"zstd"])
def test_a_compressed_answer_is_refused_unread(http: HttpClient, coding: bytes) -> None:
    body = gzip.compress(b"{}")
    head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding, len(body))
    with RawServer(answering(head + body)) as server:
        words = "the answer is compressed, which was not asked for"
        assert http.send(get(server.url)) == Failure(Category.PROTOCOL, words, http_status=200)
        assert b"accept-encoding: identity\r\n" in server.requests[0].lower()


@pytest.mark.parametrize("words", [b"identity", b"none", b"UTF-8", b"", b"identity, utf-8", b"nonsense", b"8bit"])
def test_a_word_that_is_no_coding_does_not_cost_the_answer(http: HttpClient, words: bytes) -> None:
    with RawServer(answering(HEAD + b"Content-Encoding: %s\r\nContent-Length: 2\r\n\r\n{}" % words)) as server:
        got = http.send(get(server.url))
        assert isinstance(got, HttpResponse)
        assert got.body == b"{}"


UNREADABLE: dict[str, Serve] = {
    "compressed": answering(HEAD + b"Retry-After: 7\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\0"),
    "too large": endless(HEAD + b"Retry-After: 7\r\n\r\n", b" " * 65536),
    "too large by its length": endless(HEAD + b"Retry-After: 7\r\nContent-Length: 10000000\r\n\r\n", b" " * 65536),
    "cut off": answering(HEAD + b"Retry-After: 7\r\nContent-Length: 100\r\n\r\n{"),
    "in broken chunks": answering(HEAD + b"Retry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "that does not come": endless(HEAD + b"Retry-After: 7\r\nContent-Length: 9\r\n\r\n", b""),
}


@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("status", [503, 404])
def test_the_status_of_an_answer_that_is_no_success_holds_without_its_body(
    http: HttpClient, what: str, status: int
) -> None:
    http.limits = Limits(connect=5, read=0.5, total=5, max_body=CAP)

    def serve(peer: Peer) -> None:
        send = peer.send
        peer.send = lambda data: send(data.replace(b"200 OK", b"%d Hm" % status))  # type: ignore[method-assign]
        UNREADABLE[what](peer)

    with RawServer(serve) as server:
        got = http.send(get(server.url))
        assert isinstance(got, HttpResponse), got
        assert (got.status, got.headers["retry-after"], got.body) == (status, "7", b"")


def test_a_compressed_bomb_does_not_go_off(http: HttpClient, simulator: Simulator) -> None:
    http.limits = Limits(connect=5, read=5, total=5, max_body=1 << 20)
    answer = http.send(opay_request(simulator, "gzip-bomb"))
    words = "the answer is compressed, which was not asked for"
    assert answer == Failure(Category.PROTOCOL, words, http_status=200)
