"""Proxies: none, unless asked for; and then they bend no promise."""

from time import monotonic

import pytest

from cardtoken.contract import Category
from sandbox.raw_server import OK, Peer, RawServer, answering, dripping
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure
from tests.calls import http_client

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*NAMES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def send(url: str, *, use_env_proxies: bool, total: float = 10) -> HttpResponse | Failure:
    with http_client(total=total, use_env_proxies=use_env_proxies) as http:
        return http.send(HttpRequest("GET", f"{url}/card?reference=confidential", {}))


def _in_plain_text(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.send(OK)


def set_all(env: pytest.MonkeyPatch, proxy: str) -> None:
    for name in NAMES:
        env.setenv(name, proxy)


def test_a_proxy_in_the_environment_is_not_used(env: pytest.MonkeyPatch) -> None:
    # No TLS here: the second one finds that out at once, from an answer in plain text.
    with RawServer(answering(OK)) as proxy, RawServer(_in_plain_text) as server:
        set_all(env, proxy.url)
        assert isinstance(send(server.url, use_env_proxies=False), HttpResponse)
        assert isinstance(send(server.url.replace("http:", "https:"), use_env_proxies=False), Failure)
        assert proxy.accepted == 0
        assert server.accepted == 2


def test_a_proxy_in_the_environment_is_used_where_that_was_asked_for(env: pytest.MonkeyPatch) -> None:
    with RawServer(answering(OK)) as proxy:
        set_all(env, proxy.url)
        answer = send("http://provider.invalid", use_env_proxies=True)
        assert isinstance(answer, HttpResponse)
        assert proxy.requests[0].startswith(b"GET http://provider.invalid/card?reference=confidential HTTP/1.1\r\n")


def test_a_proxy_learns_nothing_of_an_https_request_but_the_host(env: pytest.MonkeyPatch) -> None:
    with RawServer(answering(b"HTTP/1.1 200 OK\r\n\r\n")) as proxy:
        set_all(env, proxy.url)
        assert isinstance(send("https://provider.invalid", use_env_proxies=True), Failure)
        assert proxy.requests[0].startswith(b"CONNECT provider.invalid:443 HTTP/1.")
        assert b"confidential" not in proxy.requests[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_drips_cannot_hold_an_exchange_past_its_deadline(env: pytest.MonkeyPatch, scheme: str) -> None:
    with RawServer(dripping(b"HTTP/1.1 200 OK\r\nX-Filler: ", b"x")) as proxy:
        set_all(env, proxy.url)
        began = monotonic()
        answer = send(f"{scheme}://provider.invalid", use_env_proxies=True, total=0.5)
        assert isinstance(answer, Failure)
        assert answer.category is Category.TIMEOUT
        assert monotonic() - began < 1


def test_a_handshake_through_a_proxy_has_only_the_time_that_the_proxy_left(env: pytest.MonkeyPatch) -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.wait(0.9)
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.wait(10)

    with RawServer(serve) as proxy:
        set_all(env, proxy.url)
        began = monotonic()
        answer = send("https://provider.invalid", use_env_proxies=True, total=1.1)
        assert isinstance(answer, Failure)
        assert answer.category is Category.TIMEOUT
        assert monotonic() - began < 1.5


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://127.0.0.1:1", "the proxy before provider.invalid cannot be used"),
        ("http://proxy.invalid:8080", "the proxy before provider.invalid cannot be used"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_named_as_the_cause(
    env: pytest.MonkeyPatch, proxy: str, words: str, scheme: str
) -> None:
    set_all(env, proxy)
    answer = send(f"{scheme}://provider.invalid", use_env_proxies=True)
    assert answer == Failure(Category.UNAVAILABLE, words)


def test_a_proxy_that_refuses_the_tunnel_is_named_as_the_cause(env: pytest.MonkeyPatch) -> None:
    with RawServer(answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")) as proxy:
        set_all(env, proxy.url)
        answer = send("https://provider.invalid", use_env_proxies=True)
        assert answer == Failure(Category.UNAVAILABLE, "the proxy before provider.invalid cannot be used")
