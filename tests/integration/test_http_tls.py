"""TLS: who cannot prove to be the provider is told nothing, and no handshake or record outlasts an exchange."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest
import trustme

from cardtoken.contract import Category
from sandbox.raw_server import OK, Peer, RawServer, answering
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure
from tests.calls import http_client

DEADLINE = 0.4
UNVERIFIED = Failure(Category.UNAVAILABLE, "the certificate of 127.0.0.1 cannot be verified")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="module")
def good(authority: trustme.CA) -> ssl.SSLContext:
    return context_of(authority.issue_cert("127.0.0.1"))


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def post(url: str) -> HttpRequest:
    return HttpRequest("POST", f"{url}/card", {"Authorization": "Bearer confidential"}, b"confidential")


def test_an_authority_of_ones_own_is_believed_and_the_connection_is_kept(good: ssl.SSLContext, ca_file: str) -> None:
    with RawServer(answering(OK, keep=True), tls=good) as server, http_client(ca_file=ca_file) as http:
        for _ in range(10):
            assert isinstance(http.send(post(server.url)), HttpResponse)
        assert (len(server.requests), server.accepted) == (10, 1)


def test_an_unknown_authority_is_told_nothing(good: ssl.SSLContext) -> None:
    with RawServer(answering(OK), tls=good) as server, http_client(ca_file=None) as http:
        assert http.send(post(server.url)) == UNVERIFIED
        assert (server.accepted, server.requests) == (1, [])


def test_an_authority_of_ones_own_replaces_all_others(good: ssl.SSLContext, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with RawServer(answering(OK), tls=good) as server, http_client(ca_file=str(other)) as http:
        assert http.send(post(server.url)) == UNVERIFIED
        assert server.requests == []


def test_a_certificate_for_another_host_is_told_nothing(authority: trustme.CA, ca_file: str) -> None:
    context = context_of(authority.issue_cert("provider.example", "127.0.0.2"))
    with RawServer(answering(OK), tls=context) as server, http_client(ca_file=ca_file) as http:
        assert http.send(post(server.url)) == UNVERIFIED
        assert server.requests == []


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)], ids=["expired", "not yet valid"])
def test_a_certificate_out_of_its_time_is_told_nothing(
    authority: trustme.CA, ca_file: str, days: tuple[int, int]
) -> None:
    start, end = (datetime.now(UTC) + timedelta(days=offset) for offset in days)
    context = context_of(authority.issue_cert("127.0.0.1", not_before=start, not_after=end))
    with RawServer(answering(OK), tls=context) as server, http_client(ca_file=ca_file) as http:
        assert http.send(post(server.url)) == UNVERIFIED
        assert server.requests == []


def test_the_environment_cannot_make_an_unknown_authority_known(
    good: ssl.SSLContext, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, ca_file)
    with RawServer(answering(OK), tls=good) as server, http_client(ca_file=None) as http:
        assert http.send(post(server.url)) == UNVERIFIED
        assert server.requests == []


def test_outdated_tls_is_not_spoken(authority: trustme.CA, ca_file: str) -> None:
    context = context_of(authority.issue_cert("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with RawServer(answering(OK), tls=context) as server, http_client(ca_file=ca_file) as http:
        assert http.send(post(server.url)) == Failure(Category.UNAVAILABLE, "no TLS connection to 127.0.0.1")
        assert server.requests == []


def test_a_server_that_speaks_no_tls_is_told_nothing(ca_file: str) -> None:
    heard = []

    def serve(peer: Peer) -> None:
        heard.append(peer.sock.recv(65536))
        peer.send(OK)

    with RawServer(serve) as server, http_client(ca_file=ca_file) as http:
        answer = http.send(post(server.url.replace("http:", "https:")))
    assert answer == Failure(Category.UNAVAILABLE, "no TLS connection to 127.0.0.1")
    assert b"confidential" not in b"".join(heard)


# --- deadlines


def by_hand(peer: Peer, context: ssl.SSLContext, answer: bytes, after: int) -> None:
    """Speak TLS so that, from the ``after``-th byte on, what goes out comes a byte at a time."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    sent = 0

    def flush() -> None:
        nonlocal sent
        data = outgoing.read()
        whole = max(0, min(len(data), after - sent))
        peer.send(data[:whole])
        for byte in data[whole:]:
            if peer.wait(0.02):
                return
            peer.send(bytes((byte,)))
        sent += len(data)

    for step in (tls.do_handshake, lambda: tls.read(65536)):
        while True:
            try:
                step()
                break
            except ssl.SSLWantReadError:
                flush()
                incoming.write(peer.sock.recv(65536))
    flush()
    tls.write(answer)
    flush()


@pytest.mark.parametrize("after", [0, 500, 1450], ids=["from the first byte", "the certificate", "the answer"])
def test_a_record_that_drips_cannot_hold_an_exchange_past_its_deadline(
    good: ssl.SSLContext, ca_file: str, after: int
) -> None:
    # One record of 16 kB: nothing of it can be read before its last byte has come.
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + b" " * 10000
    with (
        RawServer(lambda peer: by_hand(peer, good, answer, after)) as server,
        http_client(ca_file=ca_file, total=DEADLINE) as http,
    ):
        began = monotonic()
        got = http.send(post(server.url.replace("http:", "https:")))
        assert isinstance(got, Failure), got
        assert got.category is Category.TIMEOUT
        assert monotonic() - began < DEADLINE + 0.5


def test_records_in_one_piece_are_read_by_the_same_server(good: ssl.SSLContext, ca_file: str) -> None:
    with RawServer(lambda peer: by_hand(peer, good, OK, 1 << 20)) as server, http_client(ca_file=ca_file) as http:
        assert isinstance(http.send(post(server.url.replace("http:", "https:"))), HttpResponse)


def test_a_server_that_stalls_in_the_handshake_cannot_hold_an_exchange_past_its_deadline(ca_file: str) -> None:
    with RawServer(lambda peer: peer.wait(10)) as server, http_client(ca_file=ca_file, total=DEADLINE) as http:
        began = monotonic()
        got = http.send(post(server.url.replace("http:", "https:")))
        assert isinstance(got, Failure)
        assert got.category is Category.TIMEOUT
        assert monotonic() - began < DEADLINE + 0.5


def test_a_body_that_drips_in_whole_records_cannot_hold_an_exchange_past_its_deadline(
    good: ssl.SSLContext, ca_file: str
) -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        peer.drip(b" ")

    with RawServer(serve, tls=good) as server, http_client(ca_file=ca_file, total=DEADLINE) as http:
        began = monotonic()
        got = http.send(post(server.url))
        assert isinstance(got, Failure)
        assert got.category is Category.TIMEOUT
        assert monotonic() - began < DEADLINE + 0.5
