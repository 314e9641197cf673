"""With any server, an exchange ends in an answer or in a failure of the right kind, and quotes nothing."""

import logging
import socket
from collections.abc import Iterator
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardtoken.contract import Category
from sandbox.raw_server import OK, Peer, RawServer, Serve, answering
from sandbox.service import Simulator
from tasks.http.client import HttpClient, Limits
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure
from tasks.telemetry.logs import tame
from tests.calls import http_client, opay_request

CAP = 10_000
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SECRETS = ("confidential", "hidden", "covert", "classified")


@pytest.fixture(scope="module")
def shared() -> Iterator[HttpClient]:
    with http_client(max_body=CAP) as http:
        yield http


@pytest.fixture
def http(shared: HttpClient) -> HttpClient:
    shared.limits = Limits(connect=5, read=5, total=5, max_body=CAP)
    return shared


def secretive(url: str) -> HttpRequest:
    headers = {"Authorization": "Bearer covert", "MerchantId": "hidden"}
    return HttpRequest("POST", f"{url}/classified?originalRequestId=confidential", headers, b"confidential")


def reset(peer: Peer) -> None:
    peer.request()
    peer.reset()


def reset_in_the_middle(peer: Peer) -> None:
    peer.request()
    peer.send(HEAD + b"Content-Length: 100\r\n\r\n{}")
    # A reset throws away what still waits to be sent.
    peer.wait(0.05)
    peer.reset()


def status(line: bytes) -> Serve:
    return answering(b"HTTP/1.1 " + line + b"\r\nContent-Length: 2\r\n\r\nok")


NOT_HTTP = (Category.PROTOCOL, "what 127.0.0.1 answered is not HTTP")
CLOSED = (Category.UNAVAILABLE, "127.0.0.1 closed the connection without a whole answer")
EARLY = (Category.UNAVAILABLE, "127.0.0.1 ended its answer too early")

FAILURES: dict[str, tuple[Serve, tuple[Category, str]]] = {
    "a reset": (reset, CLOSED),
    "a reset in the middle": (reset_in_the_middle, CLOSED),
    "a clean close": (Peer.request, CLOSED),
    "a close before the request is read": (lambda _: None, CLOSED),
    "too few bytes": (answering(HEAD + b"Content-Length: 100\r\n\r\n{}"), EARLY),
    "a chunk too short": (answering(CHUNKED + b"5\r\nabc"), EARLY),
    "no last chunk": (answering(CHUNKED + b"3\r\nabc\r\n"), EARLY),
    "a chunk without a size": (answering(CHUNKED + b"zz\r\nabc\r\n"), EARLY),
    "a chunk of negative size": (answering(CHUNKED + b"-5\r\nabc\r\n"), EARLY),
    "garbage": (answering(b"\x00\xff\xfe garbage\r\n\r\n"), NOT_HTTP),
    "HTTP/0.9": (answering(b"hello"), NOT_HTTP),
    "HTTP/2": (answering(b"HTTP/2 200\r\nContent-Length: 2\r\n\r\nok"), NOT_HTTP),
    "a status line without end": (answering(HEAD.rstrip() + b"x" * 300_000 + b"\r\n\r\n"), NOT_HTTP),
    "a header too large": (answering(HEAD + b"X-Filler: " + b"x" * 300_000 + b"\r\n\r\n"), NOT_HTTP),
    "too many headers": (answering(HEAD + b"X-Filler: x\r\n" * 25_000 + b"\r\n"), NOT_HTTP),
    "a length below nothing": (answering(HEAD + b"Content-Length: -2\r\n\r\nok"), NOT_HTTP),
    "a length in words": (answering(HEAD + b"Content-Length: two\r\n\r\nok"), NOT_HTTP),
    "two lengths": (answering(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk"), NOT_HTTP),
    "a chunk size too long": (answering(CHUNKED + b"0" * 600_000), NOT_HTTP),
    "a trailer too large": (answering(CHUNKED + b"0\r\nX-Filler: " + b"x" * 600_000 + b"\r\n\r\n"), NOT_HTTP),
    "status 099": (status(b"099 Low"), NOT_HTTP),
    "status 1000": (status(b"1000 High"), NOT_HTTP),
    "status -1": (status(b"-1 Negative"), NOT_HTTP),
    "status 2.0": (status(b"2.0 Number"), NOT_HTTP),
    "status word": (status(b"OK 200"), NOT_HTTP),
    "no status": (status(b""), NOT_HTTP),
    "superscript status": (status("²00 OK".encode("latin-1")), NOT_HTTP),
    "protocols switched": (answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x00\x00"), NOT_HTTP),
    "nothing after status 199": (answering(b"HTTP/1.1 199 Hm\r\n\r\n"), CLOSED),
}


@pytest.mark.parametrize("what", FAILURES)
def test_everything_that_goes_wrong_is_a_failure_of_its_kind(http: HttpClient, what: str) -> None:
    serve, (category, words) = FAILURES[what]
    with RawServer(serve) as server:
        expected = Failure(category, words, may_pass=category is Category.PROTOCOL)
        assert http.send(secretive(server.url)) == expected
        # And the next exchange does not suffer from it.
        server.serve = answering(OK)
        assert http.send(secretive(server.url)) == HttpResponse(200, {"content-length": "2"}, b"ok")


@pytest.mark.parametrize(
    ("url", "category", "words"),
    [
        ("http://provider.invalid", Category.UNAVAILABLE, "the name provider.invalid cannot be resolved"),
        ("https://provider.invalid", Category.UNAVAILABLE, "the name provider.invalid cannot be resolved"),
        ("http://127.0.0.1:99999", Category.INTERNAL, "the request to 127.0.0.1 could not be made"),
        ("http://*", Category.INTERNAL, "the request to * could not be made"),
        ("ftp://127.0.0.1", Category.INTERNAL, "the request to 127.0.0.1 could not be made"),
    ],
)
def test_a_host_that_cannot_be_asked_is_a_failure(http: HttpClient, url: str, category: Category, words: str) -> None:
    assert http.send(secretive(url)) == Failure(category, words)


def test_a_host_without_a_listener_is_a_failure(http: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = http.send(secretive(f"http://127.0.0.1:{port}"))
    assert answer == Failure(Category.UNAVAILABLE, "127.0.0.1 refused the connection")


@pytest.mark.parametrize("value", ["two\r\nlines", "卡", "\udcff"])
def test_a_header_that_cannot_be_sent_is_a_failure(http: HttpClient, value: str) -> None:
    with RawServer(answering(OK)) as server:
        request = HttpRequest("GET", f"{server.url}/classified", {"X-Header": f"hidden {value}"})
        words = "the request to 127.0.0.1 could not be made"
        assert http.send(request) == Failure(Category.INTERNAL, words)
        assert server.requests == []


@pytest.mark.parametrize("number", [200, 299, 302, 404, 418, 503, 600, 999])
def test_a_status_is_the_providers_own(http: HttpClient, number: int) -> None:
    with RawServer(status(b"%d Hm" % number)) as server:
        answer = http.send(secretive(server.url))
        assert isinstance(answer, HttpResponse)
        assert (answer.status, answer.body) == (number, b"ok")


@pytest.mark.parametrize(
    "headers",
    [
        b"X-\xff\x00\x80: \x00\xff\r\nContent-Length: 2\r\n",
        b"no colon\r\nContent-Length: 2\r\n",
        b": no name\r\nContent-Length: 2\r\n",
        b" folded from nothing\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Set-Cookie: a=b; Domain=\xff\r\nContent-Length: 2\r\n",
    ],
)
def test_headers_that_make_no_sense_do_not_cost_the_answer(http: HttpClient, headers: bytes) -> None:
    with RawServer(answering(HEAD + headers + b"\r\nok")) as server:
        answer = http.send(secretive(server.url))
        assert isinstance(answer, HttpResponse), answer
        assert (answer.status, answer.body) == (200, b"ok")


def test_no_redirect_is_followed(http: HttpClient, simulator: Simulator) -> None:
    before = simulator.stats()["redirects_followed"]
    answer = http.send(opay_request(simulator, "redirect"))
    assert isinstance(answer, HttpResponse)
    assert (answer.status, answer.headers["location"]) == (302, "/redirected")
    assert simulator.stats()["redirects_followed"] == before


def test_no_cookie_is_kept(http: HttpClient) -> None:
    with RawServer(answering(HEAD + b"Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok", keep=True)) as server:
        for _ in range(2):
            assert isinstance(http.send(secretive(server.url)), HttpResponse)
        assert b"cookie" not in server.requests[1].lower()


# --- what is said of it


def test_no_failure_and_no_log_line_quotes_the_request(
    http: HttpClient, caplog: pytest.LogCaptureFixture, untamed: None
) -> None:
    tame()
    caplog.set_level(logging.DEBUG)
    said = []
    http.limits = Limits(connect=5, read=5, total=0.3, max_body=CAP)
    with RawServer(Peer.request) as server:
        serves = [*(serve for serve, _ in FAILURES.values()), answering(OK), lambda peer: peer.wait(5)]
        serves.append(answering(HEAD + b"no colon\r\n\r\nok"))
        for server.serve in serves:
            answer = http.send(secretive(server.url))
            said += [repr(answer), str(answer)]
        for url in ("http://provider.invalid", "http://127.0.0.1:1", "https://127.0.0.1:1", server.url + "1234"):
            said.append(repr(http.send(secretive(url))))
    said += [record.getMessage() + str(record.args) for record in caplog.records] + [caplog.text]
    assert [line for line in said if any(secret in line for secret in SECRETS)] == []


@pytest.fixture
def untamed() -> Iterator[None]:
    """Loggers as they are before `tame`, and again after the test."""
    loggers = [logging.getLogger(name) for name in ("urllib3", "requests", "urllib3.connectionpool", "kombu")]
    loggers += [logging.getLogger(name) for name in ("celery.concurrency.base", "celery.worker.consumer")]
    levels = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.NOTSET)
    yield
    for logger, level in levels:
        logger.setLevel(level)


def test_nothing_of_a_request_shows_in_its_repr() -> None:
    assert repr(secretive("http://127.0.0.1:1")) == "HttpRequest(method='POST')"
    assert repr(HttpResponse(200, {"a": "hidden"}, b"hidden")) == "HttpResponse(status=200)"


# --- everything else


@pytest.fixture(scope="module")
def liar(shared: HttpClient) -> Iterator[tuple[RawServer, HttpClient]]:
    with RawServer(Peer.request) as server:
        yield server, shared


FRAGMENTS = st.sampled_from(
    b"HTTP/1.1 |HTTP/1.0 |200 OK|100 |101 |204 |304 |\r\n|\n|\r|: | |0|-1|5|fffffffffffffffff|abcde|\0|\x85|\xff|;|,|="
    b"|Content-Length: |Transfer-Encoding: chunked|Content-Encoding: |Connection: |keep-alive|Set-Cookie: ".split(b"|")
)
ANSWERS = st.builds(
    bytes.__add__,
    st.sampled_from([b"", b"HTTP/1.1 ", HEAD, CHUNKED, HEAD + b"Content-Length: 5\r\n\r\n"]),
    st.one_of(
        st.binary(max_size=200), st.lists(st.one_of(FRAGMENTS, st.binary(max_size=4)), max_size=30).map(b"".join)
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=ANSWERS)
def test_no_bytes_become_an_exception(liar: tuple[RawServer, HttpClient], data: bytes) -> None:
    server, http = liar
    server.serve = answering(data)
    http.limits = Limits(connect=5, read=5, total=2, max_body=1000)
    began = monotonic()
    answer = http.send(secretive(server.url))
    assert isinstance(answer, HttpResponse | Failure)
    assert isinstance(answer, HttpResponse) or answer.category in {Category.PROTOCOL, Category.UNAVAILABLE}
    assert monotonic() - began < 2
