"""Connections used before: what forgets them, and what repeats itself on them, is not blamed on the provider."""

import contextlib
import errno
import resource
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
import trustme

from cardtoken.contract import Category
from sandbox.raw_server import OK, Peer, RawServer, Serve, answering
from tasks.http import pools
from tasks.http.client import HttpClient
from tasks.http.connections import BoundedConnection, is_local, keepalive_options
from tasks.http.messages import Answered, HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure
from tests.calls import http_client

MANY = 40


def get(url: str) -> HttpRequest:
    return HttpRequest("GET", f"{url}/card", {})


def idle_connections(http: HttpClient) -> list[BoundedConnection]:
    (host,) = http._adapter._hosts.values()
    return [each for each in host.pool.pool.queue if each is not None and not each.is_closed]


def age(http: HttpClient, seconds: float) -> None:
    """Let time pass for the idle connections."""
    for connection in idle_connections(http):
        connection.idle_since -= seconds


def send_many(http: HttpClient, url: str, count: int) -> list[HttpResponse | Failure]:
    """As many requests at once, each on a connection of its own."""
    together = threading.Barrier(count)

    def send(_: int) -> HttpResponse | Failure:
        together.wait(30)
        return http.send(get(url))

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(send, range(count)))


def swallow(peer: Peer) -> None:
    peer.wait(30)


def late_garbage(peer: Peer) -> None:
    peer.send(b"ok\r\n")


def late_timeout(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


FORGETS: dict[str, Callable[[Peer], object]] = {
    "resets": Peer.reset,
    "closes": lambda _: None,
    "swallows": swallow,
    "sends what was left of an answer": late_garbage,
    "says that it has waited for too long": late_timeout,
}


def forgetful(how: Callable[[Peer], object], born_before: Callable[[], bool]) -> Serve:
    """Answer each connection's first request; from those opened in the old days, meet the next one so."""

    def serve(peer: Peer) -> None:
        old = born_before()
        while peer.request():
            peer.send(OK)
            if old:
                peer.request()
                how(peer)
                return

    return serve


@pytest.mark.parametrize("how", FORGETS)
def test_forty_connections_forgotten_at_once_cost_no_request(how: str) -> None:
    old = True
    with RawServer(answering(OK)) as server, http_client(connections=MANY, total=20, read=20) as http:
        gate = threading.Barrier(MANY)

        def serve(peer: Peer) -> None:
            before = old
            peer.request()
            if before:
                gate.wait(30)
            peer.send(OK)
            peer.request()
            if before:
                FORGETS[how](peer)
            else:
                peer.send(OK)

        server.serve = serve
        assert all(isinstance(each, HttpResponse) for each in send_many(http, server.url, MANY))
        assert len(idle_connections(http)) == server.accepted == MANY
        old = False
        age(http, 10)
        answers = send_many(http, server.url, 20)
        assert [each.status for each in answers if isinstance(each, HttpResponse)] == [200] * 20
        assert MANY < server.accepted <= MANY + 20


@pytest.mark.parametrize("how", FORGETS)
def test_a_connection_that_fails_in_the_midst_of_its_work_costs_no_request(how: str) -> None:
    # Not idle for a moment: what is silent has the whole read timeout, and a new connection the rest.
    with RawServer(answering(OK)) as server, http_client(read=0.3, total=5) as http:
        server.serve = forgetful(FORGETS[how], lambda: server.accepted == 1)
        answers = [http.send(get(server.url)) for _ in range(3)]
        assert [each.status for each in answers if isinstance(each, HttpResponse)] == [200] * 3
        assert server.accepted == 2


def test_a_failure_on_a_new_connection_is_the_providers() -> None:
    with RawServer(answering(OK)) as server, http_client() as http:

        def serve(peer: Peer) -> None:
            peer.request()
            if server.accepted == 1:
                peer.send(OK)
                peer.request()
            peer.reset()

        server.serve = serve
        assert isinstance(http.send(get(server.url)), HttpResponse)
        words = "127.0.0.1 closed the connection without a whole answer"
        assert http.send(get(server.url)) == Failure(Category.UNAVAILABLE, words)
        assert server.accepted == 2


def test_an_answer_that_breaks_off_on_a_used_connection_is_the_providers() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        peer.send(OK[:-1])

    with RawServer(serve) as server, http_client() as http:
        assert isinstance(http.send(get(server.url)), HttpResponse)
        assert http.send(get(server.url)) == Failure(Category.UNAVAILABLE, "127.0.0.1 ended its answer too early")
        assert server.accepted == 1


def test_one_dead_connection_condemns_the_others() -> None:
    with RawServer(answering(OK)) as server, http_client(connections=3) as http:
        gate = threading.Barrier(3)

        def serve(peer: Peer) -> None:
            number = server.accepted
            peer.request()
            if number <= 3:
                gate.wait(30)
            peer.send(OK)
            if peer.request() and number > 3:
                peer.send(OK)
                peer.request()
            else:
                peer.reset()

        server.serve = serve
        send_many(http, server.url, 3)
        age(http, 10)
        for _ in range(2):
            assert len(send_many(http, server.url, 1)) == 1
        (host,) = http._adapter._hosts.values()
        assert sum(each.believable(20, host.dead) for each in idle_connections(http)) == 1


def test_a_connection_that_was_idle_for_too_long_is_not_used_again() -> None:
    with RawServer(answering(OK, keep=True)) as server, http_client() as http:
        for seconds, accepted in ((0, 1), (19, 1), (21, 2), (1, 2)):
            if accepted > 1 or seconds:
                age(http, seconds)
            assert isinstance(http.send(get(server.url)), HttpResponse)
            assert server.accepted == accepted


def test_a_slow_provider_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_MOMENT", 0.05)

    def serve(peer: Peer) -> None:
        while peer.request():
            peer.wait(0.3)
            peer.send(OK)

    with RawServer(serve) as server, http_client() as http:
        for _ in range(3):
            assert isinstance(http.send(get(server.url)), HttpResponse)
            age(http, 10)
        assert (server.accepted, len(server.requests)) == (1, 3)


def test_the_second_try_has_only_what_the_first_left_of_the_deadline() -> None:
    def serve(peer: Peer) -> None:
        if server.accepted == 1:
            peer.request()
            peer.send(OK)
        peer.wait(30)

    with RawServer(serve) as server, http_client(read=0.3, total=0.5) as http:
        assert isinstance(http.send(get(server.url)), HttpResponse)
        began = monotonic()
        answer = http.send(get(server.url))
        assert isinstance(answer, Failure)
        assert answer.category is Category.TIMEOUT
        assert 0.5 <= monotonic() - began < 1.5


def test_the_kernel_looks_after_idle_connections() -> None:
    with RawServer(answering(OK, keep=True)) as server, http_client() as http:
        http.send(get(server.url))
        (connection,) = idle_connections(http)
        for level, option, value in keepalive_options():
            assert connection.sock.getsockopt(level, option) == value
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# --- answers that are another's


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, str(path)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("secure", [True, False])
def test_an_answer_that_is_repeated_reaches_no_other_request(
    tls: tuple[ssl.SSLContext, str], secure: bool, together: bool
) -> None:
    repeated = threading.Event()

    def serve(peer: Peer) -> None:
        path = peer.request().split()[1]
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path)
        peer.send(answer * 2 if together else answer)
        if not together:
            peer.send(answer)
        repeated.set()
        peer.request()

    context, ca_file = tls
    with RawServer(serve, tls=context if secure else None) as server, http_client(ca_file=ca_file) as http:
        for number in range(3):
            repeated.clear()
            answer = http.send(HttpRequest("GET", f"{server.url}/{number}", {}))
            assert isinstance(answer, HttpResponse)
            assert answer.body == b"/%d" % number
            assert repeated.wait(10)
        assert server.accepted == 3


def test_bytes_left_of_a_tls_record_condemn_their_connection(tls: tuple[ssl.SSLContext, str]) -> None:
    context, ca_file = tls
    over = threading.Event()

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        over.wait(30)
        peer.send(OK)
        peer.request()

    with RawServer(serve, tls=context) as server, http_client(ca_file=ca_file) as http:
        assert isinstance(http.send(get(server.url)), HttpResponse)
        (connection,) = idle_connections(http)
        assert connection.believable(20, 0)
        over.set()
        assert connection.sock.recv(1) == OK[:1]
        assert not select.select([connection.sock], [], [], 0)[0], "nothing shows on the socket"
        assert not connection.believable(20, 0)


@pytest.mark.parametrize("early", [OK, b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno"])
def test_a_success_that_comes_before_its_request_is_not_believed(monkeypatch: pytest.MonkeyPatch, early: bytes) -> None:
    hear = BoundedConnection._hear

    def hear_late(connection: BoundedConnection, *args: Any) -> bool:
        select.select([connection.sock], [], [], 10)
        return hear(connection, *args)

    monkeypatch.setattr(BoundedConnection, "_hear", hear_late)
    with RawServer(lambda peer: peer.send(early)) as server, http_client() as http:
        answer = http.send(get(server.url))
        if early == OK:
            words = "127.0.0.1 answered before it was asked"
            assert answer == Failure(Category.PROTOCOL, words, may_pass=True)
        else:
            assert isinstance(answer, HttpResponse)
            assert (answer.status, answer.headers["retry-after"]) == (503, "7")


def test_an_answer_that_is_not_believed_is_asked_for_once_more_on_a_new_connection() -> None:
    asked: list[tuple[bytes, list[str]]] = []

    def believed(response: HttpResponse, answered: Answered) -> bool:
        asked.append((response.body, list(answered)))
        answered["seen"] = 1
        return response.body != b"no"

    def serve(peer: Peer) -> None:
        number = server.accepted
        while peer.request():
            peer.send(OK if number == 2 else OK.replace(b"ok", b"no"))

    with RawServer(serve) as server, http_client() as http:
        for _ in range(2):
            answer = http.send(get(server.url), believed=believed)
            assert isinstance(answer, HttpResponse)
            assert answer.body == b"ok"
        # What is remembered is remembered of one connection.
        assert asked == [(b"no", []), (b"ok", []), (b"ok", ["seen"])]
        server.serve = answering(OK.replace(b"ok", b"no"), keep=True)
        answer = http.send(get(server.url), alone=True, believed=believed)
        assert isinstance(answer, HttpResponse), "a second one that is wrong is the answer"
        assert server.accepted == 4
        assert idle_connections(http) == []


def test_a_request_may_ask_for_a_connection_of_its_own() -> None:
    with RawServer(answering(OK, keep=True)) as server, http_client() as http:
        for _ in range(3):
            assert isinstance(http.send(get(server.url), alone=True), HttpResponse)
        assert server.accepted == 3


# --- what this machine lacks


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """No file can be opened, and no socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest:
        free = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "provider.invalid"])
def test_a_machine_without_descriptors_says_nothing_of_the_provider(host: str) -> None:
    with RawServer(answering(OK, keep=True)) as server, http_client() as http:
        url = f"http://{host}:{server.port}"
        with no_descriptors():
            answer = http.send(get(url))
        words = f"this machine cannot make a connection to {host}"
        assert answer == Failure(Category.UNAVAILABLE, words, local=True)
        if host != "provider.invalid":
            assert isinstance(http.send(get(url)), HttpResponse)


LOCAL = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EPERM)


@pytest.mark.parametrize("number", LOCAL)
def test_a_local_shortage_is_reported_only_when_no_address_can_be_tried(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refused, lacking = ConnectionRefusedError(errno.ECONNREFUSED, "no"), OSError(number, "no")
    assert is_local(lacking)
    for errors, local in (([lacking], True), ([lacking, lacking], True), ([refused, lacking], False)):
        left = iter(errors)

        def connected(*_: object, left: Iterator[OSError] = left) -> socket.socket:
            raise next(left)

        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))] * len(errors)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, addresses=addresses, **__: addresses)
        monkeypatch.setattr(BoundedConnection, "_connected", connected)
        with http_client() as http:
            answer = http.send(get("http://provider.example"))
            assert isinstance(answer, Failure)
            assert answer.local is local


def test_an_error_of_tls_is_not_taken_for_the_machines() -> None:
    # Its numbers are of another list: 1 is EPERM in the one, and any failure in the other.
    assert not is_local(ssl.SSLError(1, "no"))
    assert not is_local(socket.gaierror(1, "no"))
