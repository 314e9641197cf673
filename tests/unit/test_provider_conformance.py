"""What every provider must hold. One joins by its line in ``cardtoken/providers.py``."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import pytest
from pydantic import TypeAdapter, ValidationError

from cardtoken.contract import Category, LookupRequest
from cardtoken.providers import PROVIDERS as KNOWN
from cardtoken.secret import CardToken, Secret
from simulator.app import PROVIDERS as SIMULATED
from tasks.http.messages import HttpRequest
from tasks.lookups.outcomes import Answer
from tasks.providers import PROVIDERS
from tasks.providers.provider import Account, Provider
from tests.unit.conformance import (
    HOST,
    REFERENCE,
    SUCCESSES,
    account_of,
    confidential,
    each_provider,
    is_secret,
    query_of,
    secrets_of,
)

# --- the registry


@each_provider
def test_a_provider_has_a_simulator_of_its_name_and_title(provider: Provider[Any]) -> None:
    (simulated,) = (each for each in SIMULATED if each.name == provider.name)
    assert simulated.title == KNOWN[provider.name].title
    assert set(simulated.account_fields) <= provider.account.model_fields.keys()


def test_the_samples_of_pages_are_of_providers() -> None:
    assert SUCCESSES.keys() <= PROVIDERS.keys()


@each_provider
def test_a_provider_is_registered_under_a_name_that_queues_and_variables_can_bear(provider: Provider[Any]) -> None:
    assert PROVIDERS[provider.name] is provider
    assert provider.name.isidentifier()
    assert provider.name.islower()


@each_provider
def test_a_request_model_adds_one_reference_and_nothing_else(provider: Provider[Any]) -> None:
    added = provider.request.model_fields.keys() - LookupRequest.model_fields.keys()
    assert len(added) == 1
    request = provider.request.model_validate({added.pop(): REFERENCE})
    assert request.reference == CardToken(REFERENCE)
    assert REFERENCE not in f"{request} {request!r} {request.model_dump_json()}"
    with pytest.raises(ValidationError):
        provider.request.model_validate({})


@each_provider
def test_every_field_of_an_account_says_what_to_put_there(provider: Provider[Any]) -> None:
    assert all(info.description for info in provider.account.model_fields.values())
    assert any(is_secret(provider.account, name) for name in provider.account.model_fields)
    assert "base_url" in provider.account.model_fields


@each_provider
def test_a_code_table_finds_something_and_misses_something(provider: Provider[Any]) -> None:
    assert {Answer.FOUND, Answer.NOT_FOUND} <= set(provider.codes.values())
    TypeAdapter(dict[str, Answer | Category]).validate_python(dict(provider.codes), strict=True)


# --- the request

#: Headers that hold what must not be shown, a signature too.
_CREDENTIALS = frozenset({"authorization", "cookie", "x-api-key", "x-signature"})


def accounts_of(provider: Provider[Any]) -> Iterator[Account]:
    """Two accounts whose secrets differ."""
    secret = next(name for name in provider.account.model_fields if is_secret(provider.account, name))
    yield account_of(provider)
    yield account_of(provider, **{secret: "another-canary-0123456789abcdef"})


def requests_of(provider: Provider[Any]) -> list[HttpRequest]:
    query = query_of(provider)
    built = [provider.build(query)]
    if provider.access_tokens is not None:
        built.append(provider.access_tokens.build(query.account))
    return built


@each_provider
def test_the_same_query_builds_the_same_request(provider: Provider[Any]) -> None:
    assert requests_of(provider) == requests_of(provider)


@each_provider
def test_another_request_id_changes_at_most_the_header_that_carries_it(provider: Provider[Any]) -> None:
    one, other = (provider.build(query_of(provider, character * 32)) for character in "0f")
    assert (one.method, one.url, one.body) == (other.method, other.url, other.body)
    changed = {name for name in one.headers if one.headers[name] != other.headers[name]}
    assert {other.headers[name] for name in changed} <= {"f" * 32}


@each_provider
def test_a_request_goes_to_the_accounts_own_url(provider: Provider[Any]) -> None:
    for request in requests_of(provider):
        assert request.url.startswith(f"{HOST}/")
    assert all(
        value.startswith("https://") for field, value in account_of(provider) if field.endswith("_url") and value
    )


@each_provider
def test_the_default_url_is_https(provider: Provider[Any]) -> None:
    assert provider.account.model_fields["base_url"].get_default().startswith("https://")


@each_provider
def test_a_request_can_be_sent_as_it_is(provider: Provider[Any]) -> None:
    for request in requests_of(provider):
        assert request.url.isascii()
        assert request.url.isprintable()
        for name, value in request.headers.items():
            assert f"{name}{value}".isascii(), name
            assert f"{name}{value}".isprintable(), name
        assert request.headers["Accept"] == "application/json"


@each_provider
def test_the_reference_is_in_the_request(provider: Provider[Any]) -> None:
    request = provider.build(query_of(provider))
    sent = unquote_plus(request.url.replace("+", "%2B")) + (request.body or b"").decode()
    assert REFERENCE in sent, (
        "the reference is not in the request as it was given: in a query a space is %20 and a plus sign %2B, as of "
        "urlencode(…, quote_via=quote, safe=''); urlencode's own + is a plus sign to many servers"
    )


@each_provider
def test_nothing_that_could_be_logged_holds_a_secret_or_the_reference(provider: Provider[Any]) -> None:
    query = query_of(provider)
    shown = " ".join(f"{value} {value!r}" for value in (query, query.account, provider, *requests_of(provider)))
    assert not any(secret in shown for secret in confidential(query))
    for request in requests_of(provider):
        said = urlsplit(request.url).query
        assert not said or said not in shown
        credentials = [value for name, value in request.headers.items() if name.lower() in _CREDENTIALS]
        assert not any(value in shown for value in credentials)


@each_provider
def test_a_request_carries_a_credential(provider: Provider[Any]) -> None:
    one, other = (provider.build(replace(query_of(provider), account=account)) for account in accounts_of(provider))
    token = replace(query_of(provider), access_token=Secret("another")) if provider.access_tokens else None
    assert one != other or (token is not None and one != provider.build(token))


@each_provider
def test_an_account_that_is_refused_does_not_show_its_secrets(provider: Provider[Any]) -> None:
    secrets = secrets_of(account_of(provider))
    assert secrets
    for wrong in ({"base_url": "nowhere"}, {"no_such_field": secrets[0]}):
        with pytest.raises(ValidationError) as caught:
            account_of(provider, **wrong)
        assert not any(secret in f"{caught.value} {caught.value!r}" for secret in secrets)


@each_provider
@pytest.mark.parametrize(
    "url",
    [
        "api.example.com",  # no scheme
        "ftp://api.example.com",
        "https://",  # no host
        "https://user:password@api.example.com",  # what would be logged with the URL
        "https://@api.example.com",
        "https://api.example.com?",  # the path would become a query
        "https://api.example.com/?a=b",
        "https://api.example.com#",  # and here never be sent
        "https://api.example.com:99999",
        "https://api.example.com:port",
        "https://api.exa mple.com",
        "https://api.example.com\n",
        "https://bücher.example",  # a host is given as it is sent
    ],
)
def test_a_base_url_that_is_none_is_refused(provider: Provider[Any], url: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        account_of(provider, base_url=url)
