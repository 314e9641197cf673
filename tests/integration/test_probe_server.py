"""The probes' HTTP server, over real sockets: who asks gets an answer, whatever other clients do."""

import json
import os
import resource
import socket
import time
from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse

import pytest

from tasks.probes import server
from tasks.probes.server import ProbeServer

ANSWERS = {
    "/livez": (HTTPStatus.OK, b'{"live": true}'),
    "/readyz": (HTTPStatus.SERVICE_UNAVAILABLE, b'{"ready": false}'),
}


def serve(host: str = "127.0.0.1") -> int:
    return ProbeServer(ANSWERS.get, lambda: None).start(host, 0)


@pytest.fixture(scope="module")
def port() -> int:
    return serve()


def ask(port: int, path: str = "/livez", method: str = "GET", host: str = "127.0.0.1") -> tuple[HTTPResponse, bytes]:
    with closing(HTTPConnection(host, port, timeout=10)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65_536):
            answer += part
        return answer


def test_status_and_json_are_those_of_the_path(port: int) -> None:
    for path, (status, body) in ANSWERS.items():
        response, read = ask(port, path)
        assert (response.status, read, response.getheader("Content-Type")) == (status, body, "application/json")
        assert response.getheader("Connection") == "close"
        json.loads(read)


def test_head_has_the_same_headers_and_no_body(port: int) -> None:
    response, body = ask(port, "/readyz", "HEAD")
    assert (response.status, body, response.getheader("Content-Length")) == (503, b"", "16")


@pytest.mark.parametrize("path", ["/", "/livez/", "/LIVEZ", "/metrics", "/livez/..", "//livez", "/%6civez"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_found(port: int, path: str, method: str) -> None:
    assert ask(port, path, method)[0].status == 404


def test_a_query_is_left_aside(port: int) -> None:
    assert ask(port, "/livez?verbose=1")[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_not_allowed_and_the_answer_says_which_are(port: int, method: str) -> None:
    response, _ = ask(port, "/livez", method)
    assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\n\r\n", 200),
        (b"GET http://worker/livez HTTP/1.1\r\nHost: worker\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200),
        (b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET \xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
def test_a_request_of_any_kind_is_answered(port: int, request_: bytes, status: int) -> None:
    assert exchange(port, request_).startswith(b"HTTP/1.1 %d " % status)


def test_a_request_in_pieces_is_answered(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (b"GET /li", b"vez HTT", b"P/1.1\r\nHo", b"st: a\r\n\r", b"\n"):
            client.sendall(part)
            time.sleep(0.01)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_slow_clients_keep_no_other_waiting_and_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 1.0)
    port = serve()
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(150)]
        for number, client in enumerate(slow):
            if number % 2:
                client.sendall(b"GET /livez HTTP/1.1\r\n")
        for _ in range(20):
            assert ask(port)[0].status == 200
        for client in slow:
            with suppress(ConnectionResetError):
                assert client.recv(1) == b"", "each is closed after its time at the latest"


@pytest.mark.parametrize("host", ["::1", "::", "localhost", "0.0.0.0"])  # noqa: S104 - as in a container
def test_other_hosts_work_and_two_colons_stand_for_both_families(host: str) -> None:
    port = serve(host)
    asked = {"::1": ["::1"], "::": ["::1", "127.0.0.1"], "0.0.0.0": ["127.0.0.1"]}.get(host, ["localhost"])  # noqa: S104
    for each in asked:
        assert ask(port, host=each)[0].status == 200


def test_a_port_that_is_taken_is_an_error(port: int) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        ProbeServer(ANSWERS.get, lambda: None).start("127.0.0.1", port)


def test_it_answers_while_no_descriptor_is_left() -> None:
    port = serve()
    client = socket.socket()
    client.settimeout(10)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[0]), limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = client.recv(100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in taken:
            os.close(each)
        client.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_error_of_ours_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("OPAY_TOKEN_secret")

    port = ProbeServer(ANSWERS.get, fail).start("127.0.0.1", 0)
    with pytest.raises(OSError, match="timed out"), socket.create_connection(("127.0.0.1", port), timeout=0.5) as it:
        it.recv(1)
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text
