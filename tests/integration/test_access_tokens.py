"""Access tokens: asked for once, shared by all threads, renewed in time, never shown."""

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from cardtoken.contract import Category
from cardtoken.secret import CardToken, Secret
from sandbox.service import Simulator
from sandbox.waiting import until
from tasks.calls.access_tokens import AccessTokenCache
from tasks.http.client import HttpClient
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure, Found
from tasks.providers import afterpay
from tasks.providers.provider import Query
from tests.calls import afterpay_account, http_client

#: Seconds that an access token holds here; it is renewed from the half of that on.
TTL = 1.6
TOTAL = 0.6
assert afterpay.PROVIDER.access_tokens is not None
SCHEME = afterpay.PROVIDER.access_tokens


@pytest.fixture(scope="module")
def short_lived() -> Iterator[Simulator]:
    with Simulator("--token-ttl", str(TTL)) as simulator:
        yield simulator


@pytest.fixture
def provider(short_lived: Simulator) -> Simulator:
    short_lived.reset()
    return short_lived


@pytest.fixture(scope="module")
def http() -> Iterator[HttpClient]:
    with http_client(total=TOTAL) as http:
        yield http


@pytest.fixture
def account(provider: Simulator) -> afterpay.AfterpayAccount:
    return afterpay_account(provider)


@pytest.fixture
def cache(account: afterpay.AfterpayAccount, http: HttpClient) -> AccessTokenCache:
    return AccessTokenCache(SCHEME, account, http.send)


def soon(seconds: float = 10) -> float:
    return monotonic() + seconds


def a_token(cache: AccessTokenCache) -> Secret:
    token = cache.get(soon())
    assert isinstance(token, Secret), token
    return token


def at_once(count: int, ask: Callable[[], Secret | Failure]) -> list[Secret | Failure]:
    """The answers of so many threads that ask in the same moment."""
    together = threading.Barrier(count)

    def wait_and_ask(_: int) -> Secret | Failure:
        together.wait()
        return ask()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(wait_and_ask, range(count)))


def works(token: Secret, account: afterpay.AfterpayAccount, http: HttpClient) -> bool:
    query = Query(CardToken("visa"), account, f"{monotonic():.9f}".replace(".", ""), token)
    response = http.send(afterpay.build(query))
    assert isinstance(response, HttpResponse)
    return isinstance(afterpay.parse(response, query), Found)


def test_fifty_threads_make_one_request(provider: Simulator, cache: AccessTokenCache) -> None:
    provider.behave(latency=0.1)
    answers = at_once(50, lambda: cache.get(soon()))
    assert all(isinstance(answer, Secret) for answer in answers)
    assert len({answer.get_secret_value() for answer in answers if isinstance(answer, Secret)}) == 1
    assert provider.stats()["token_requests"] == 1


def test_a_hanging_token_endpoint_costs_fifty_threads_one_wait(provider: Simulator, cache: AccessTokenCache) -> None:
    provider.behave(token_endpoint="hang")
    began = monotonic()
    answers = at_once(50, lambda: cache.get(soon()))
    elapsed = monotonic() - began
    assert {answer.category for answer in answers if isinstance(answer, Failure)} == {Category.TIMEOUT}
    assert len(answers) == 50
    assert elapsed < TOTAL * 1.8
    assert provider.stats()["token_requests"] == 1


@pytest.mark.parametrize(
    ("mode", "category"),
    [
        ("down", Category.UNAVAILABLE),
        ("garbage", Category.PROTOCOL),
        ("unauthorized", Category.AUTHENTICATION),
        ("refused", Category.AUTHENTICATION),
        ("hang", Category.TIMEOUT),
    ],
)
def test_a_failure_is_not_remembered(
    provider: Simulator, cache: AccessTokenCache, mode: str, category: Category
) -> None:
    provider.behave(token_endpoint=mode)
    failure = cache.get(soon())
    assert isinstance(failure, Failure)
    assert failure.category is category
    provider.behave(token_endpoint="normal")
    assert a_token(cache)


@pytest.mark.parametrize("others", [0, 5])
def test_a_lookup_waits_no_longer_for_an_access_token_than_it_has_time(
    provider: Simulator, cache: AccessTokenCache, others: int
) -> None:
    provider.behave(token_endpoint="hang")
    with ThreadPoolExecutor(8) as threads:
        patient = [threads.submit(cache.get, soon()) for _ in range(others)]
        began = monotonic()
        assert cache.get(soon(0.2)) == Failure(Category.TIMEOUT, "no access token in time")
        assert monotonic() - began < 0.4
        for each in patient:
            assert isinstance(each.result(), Failure)
    assert provider.stats()["token_requests"] == 1


def test_a_first_caller_with_little_time_does_not_fail_the_others(provider: Simulator, cache: AccessTokenCache) -> None:
    provider.behave(latency=0.3)
    assert isinstance(cache.get(soon(0.05)), Failure)
    assert a_token(cache)
    assert provider.stats()["token_requests"] == 1


def test_a_token_is_renewed_before_its_end(
    provider: Simulator, cache: AccessTokenCache, account: afterpay.AfterpayAccount, http: HttpClient
) -> None:
    began = monotonic()
    first = a_token(cache)
    assert a_token(cache) == first
    second = until(lambda: None if (token := a_token(cache)) == first else token)
    assert TTL / 4 < monotonic() - began < TTL
    assert works(first, account, http), "the old one was renewed before it had to be"
    assert works(second, account, http)
    assert provider.stats()["token_requests"] == 2


def test_a_kept_token_serves_while_it_is_renewed_and_when_that_fails(
    provider: Simulator, cache: AccessTokenCache, account: afterpay.AfterpayAccount, http: HttpClient
) -> None:
    first = a_token(cache)
    ends_at = monotonic() + TTL
    provider.behave(token_endpoint="hang")
    slowest, renewals = 0.0, 0
    while monotonic() < ends_at - 0.2:
        began = monotonic()
        assert a_token(cache) == first
        slowest = max(slowest, monotonic() - began)
        threading.Event().wait(0.005)
    renewals = provider.stats()["token_requests"] - 1
    assert slowest < 0.25, "a call waited for a token while there was a good one"
    # One after the other, each of them in vain.
    assert 1 <= renewals <= TTL / 2 / TOTAL + 1
    assert works(first, account, http)


def test_a_token_that_has_ended_is_not_given_out(provider: Simulator, cache: AccessTokenCache) -> None:
    first = a_token(cache)
    provider.behave(token_endpoint="down")
    failure = until(lambda: answer if isinstance(answer := cache.get(soon()), Failure) else None)
    assert failure.category is Category.UNAVAILABLE
    provider.behave(token_endpoint="normal")
    assert a_token(cache) != first


def test_only_the_token_that_was_refused_is_forgotten(provider: Simulator, cache: AccessTokenCache) -> None:
    first = a_token(cache)
    cache.discard(first)
    second = a_token(cache)
    assert second != first
    for _ in range(3):
        cache.discard(first)
    assert a_token(cache) == second
    assert provider.stats()["token_requests"] == 2


def test_fifty_threads_whose_token_was_refused_get_one_new_one(provider: Simulator, cache: AccessTokenCache) -> None:
    first = a_token(cache)

    def refused() -> Secret | Failure:
        cache.discard(first)
        return cache.get(soon())

    answers = at_once(50, refused)
    assert len({answer.get_secret_value() for answer in answers if isinstance(answer, Secret)} - {first}) == 1
    assert provider.stats()["token_requests"] == 2


def test_a_token_is_had_where_no_thread_can_be_started(
    provider: Simulator, cache: AccessTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    first = a_token(cache)
    assert a_token(cache) == first
    cache.discard(first)
    provider.behave(token_endpoint="down")
    assert isinstance(cache.get(soon()), Failure)
    provider.behave(token_endpoint="normal")
    assert a_token(cache) != first


def test_an_error_of_ours_ends_in_a_failure_and_quotes_nothing(
    account: afterpay.AfterpayAccount, http: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: afterpay.AfterpayAccount) -> HttpRequest:
        raise ValueError("confidential")

    cache = AccessTokenCache(dataclasses.replace(SCHEME, build=broken), account, http.send)
    caplog.set_level(logging.DEBUG)
    for _ in range(2):
        failure = cache.get(soon())
        assert failure == Failure(Category.INTERNAL, "the request for an access token could not be made")
    assert "renewing an access token ended in ValueError" in caplog.text
    assert "confidential" not in caplog.text


def test_a_token_shows_nowhere(cache: AccessTokenCache, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tasks")
    token = a_token(cache)
    value = token.get_secret_value()
    assert len(value) > 20
    for shown in (cache, cache._kept, cache.__dict__, token, SCHEME):
        assert value not in f"{shown} {shown!r}"
    assert value not in caplog.text
