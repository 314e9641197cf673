"""What holds of every answer, for every registered provider."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cardtoken.contract import Category, LookupResult
from tasks.http.messages import HttpResponse
from tasks.lookups.lookup import Lookup, Settled
from tasks.lookups.outcomes import Failure, Found, NotFound, Outcome
from tasks.providers import PROVIDERS
from tasks.providers.provider import Provider
from tasks.stores.results import result_of
from tests.unit.conformance import (
    ACCESS_TOKEN,
    REFERENCE,
    account_of,
    confidential,
    each_provider,
    query_of,
    secrets_of,
    success_of,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
#: Those that give out access tokens.
WITH_ACCESS_TOKENS = [provider for provider in PROVIDERS.values() if provider.access_tokens]

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def token_in(body: Any, path: tuple[str, ...] | None) -> object:
    """The card token that a body names; the reference where it names none."""
    if path is None:
        return REFERENCE
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def check(provider: Provider[Any], response: HttpResponse) -> Outcome:
    """What holds of every answer: one of the three outcomes, nothing secret in it, and a result that can be written."""
    query = query_of(provider)
    outcome = provider.parse(response, query)
    assert isinstance(outcome, Found | NotFound | Failure)
    if isinstance(outcome, Failure):
        assert 0 < len(outcome.message) <= 500
        assert outcome.category not in {Category.INTERNAL, Category.EXPIRED}
        assert outcome.retry_after is None or 0 <= outcome.retry_after < float("inf")
        told = f"{outcome!r} {outcome}"
        assert not any(secret in told for secret in confidential(query))
    lookup = Lookup(
        index=0,
        lookup_id="t:0",
        account="default",
        reply_to="default",
        requested_at=NOW,
        deadline=NOW,
        metadata={},
        sent={},
        request=None,
    )
    result = result_of(Settled(lookup, outcome, NOW), "t", provider.name)
    written = result.to_json()
    assert LookupResult.from_json(written.encode()) == result
    json.loads(written, parse_constant=pytest.fail)
    if isinstance(outcome, Found):
        token = outcome.token
        assert json.loads(written)["token"]["value"] == token.value.get_secret_value()
        assert (token.exp_month is None) is (token.exp_year is None)
        assert token.created_at is None or token.created_at.year >= 2010
    return outcome


@each_provider
def test_the_sample_is_found(provider: Provider[Any]) -> None:
    sample = success_of(provider)
    outcome = check(provider, HttpResponse(200, {}, json.dumps(sample.body).encode()))
    assert isinstance(outcome, Found)
    value = outcome.token.value.get_secret_value()
    assert value == token_in(sample.body, sample.token)
    assert value not in f"{outcome} {outcome!r}"


@each_provider
@pytest.mark.parametrize(
    "odd",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b"\r\n" + text.encode() + b"\x00",
        lambda text: text.replace(": ", ":\t").encode(),
        lambda text: text.replace("{", '{"note": "raw\ttab and\r\nline",', 1).encode(),
    ],
    ids=["a byte order mark", "UTF-16", "a NUL at the end", "tabs between", "a raw tab and line break"],
)
def test_a_success_that_is_written_oddly_is_read_as_any_other(
    provider: Provider[Any], odd: Callable[[str], bytes]
) -> None:
    text = json.dumps(success_of(provider).body)
    assert check(provider, HttpResponse(200, {}, odd(text))) == check(provider, HttpResponse(200, {}, text.encode()))


def nested(content: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Return lists and objects of this content."""
    return st.lists(content, max_size=4) | st.dictionaries(st.text(max_size=12), content, max_size=4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    nested,
    max_leaves=12,
)
STATUS = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 408, 422, 429, 500, 503]) | st.integers(-1, 1000)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "date", "content-type"]), st.text(max_size=40) | st.integers().map(str)
)
SAID = st.sampled_from([REFERENCE, quote(REFERENCE, safe=""), ACCESS_TOKEN, "4111111111111111", "jo@example.com"])


@each_provider
@given(status=STATUS, headers=HEADERS, body=st.binary() | st.text().map(str.encode))
@example(status=200, headers={}, body=b"")
@thorough
def test_no_bytes_are_too_odd_for_a_provider(
    provider: Provider[Any], status: int, headers: dict[str, str], body: bytes
) -> None:
    check(provider, HttpResponse(status, headers, body))


@each_provider
@given(status=STATUS, headers=HEADERS, content=JSON)
@thorough
def test_no_json_is_too_odd_for_a_provider(
    provider: Provider[Any], status: int, headers: dict[str, str], content: object
) -> None:
    check(provider, HttpResponse(status, headers, json.dumps(content).encode()))


def paths(content: object) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    if isinstance(content, dict):
        for key, value in content.items():
            found += [(key,), *((key, *rest) for rest in paths(value))]
    return found


def changed(content: Any, path: tuple[str, ...], value: object, *, drop: bool) -> Any:
    if not isinstance(content, dict):
        return content
    head, *rest = path
    if rest:
        return {**content, head: changed(content.get(head), tuple(rest), value, drop=drop)}
    return {name: each for name, each in content.items() if name != head} if drop else {**content, head: value}


@each_provider
@given(data=st.data(), status=st.just(200) | STATUS, headers=HEADERS)
@thorough
def test_a_success_with_something_changed_never_carries_a_token_that_was_not_meant(
    provider: Provider[Any], data: st.DataObject, status: int, headers: dict[str, str]
) -> None:
    sample = success_of(provider)
    body = sample.body
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths(sample.body)))
        body = changed(body, path, data.draw(JSON | SAID), drop=data.draw(st.booleans()))
    outcome = check(provider, HttpResponse(status, headers, json.dumps(body).encode()))
    if isinstance(outcome, Found):
        value = outcome.token.value.get_secret_value()
        assert value == token_in(body, sample.token)
        assert value == REFERENCE or not sample.echoes


@each_provider
@given(status=STATUS, before=st.text(max_size=80), after=st.text(max_size=20))
@thorough
def test_a_failure_repeats_no_secret_from_any_field(
    provider: Provider[Any], status: int, before: str, after: str
) -> None:
    names = ["code", "message", "errorCode", "error", "error_description", "errorId", "data", "detail"]
    for said in confidential(query_of(provider)):
        body = dict.fromkeys(names, f"{before}{said}{after}")
        check(provider, HttpResponse(status, {}, json.dumps(body).encode()))


@pytest.mark.parametrize("provider", WITH_ACCESS_TOKENS, ids=lambda provider: provider.name)
@given(status=STATUS, headers=HEADERS, content=JSON)
@example(status=200, headers={}, content=-1)
@thorough
def test_no_answer_is_too_odd_for_an_access_token(
    provider: Provider[Any], status: int, headers: dict[str, str], content: object
) -> None:
    assert provider.access_tokens is not None
    account = account_of(provider)
    for body in ({"access_token": content}, {"access_token": ACCESS_TOKEN, "expires_in": content}, content):
        response = HttpResponse(status, headers, json.dumps(body).encode())
        answer = provider.access_tokens.parse(response, account)
        if isinstance(answer, Failure):
            assert len(answer.message) <= 500
            assert not any(secret in f"{answer!r}" for secret in secrets_of(account))
        else:
            assert answer.expires_in >= 0
            assert answer.value.get_secret_value().isprintable()
        assert isinstance(provider.access_tokens.refused(response), bool)
