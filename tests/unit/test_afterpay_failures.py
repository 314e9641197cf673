"""Afterpay's adapter: access tokens, statuses, and what may be told of an answer."""

import json
from typing import Any

import pytest

from cardtoken.contract import Category
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpResponse
from tasks.outcomes import Failure, NotFound, Outcome
from tasks.providers.afterpay import PROVIDER, AfterpayAccount, build_access_token, parse, parse_access_token
from tasks.providers.provider import AccessToken, Query

REFERENCE = "8456732415666565656565656565656"
ACCESS_TOKEN = "eyJhbGciOiJIUzI1NiJ9.access.token"
BASIC = "YWZ0ZXJwYXk6bWVyY2hhbnRBQkM="
ACCOUNT = AfterpayAccount(client_id="afterpay", client_secret=Secret("merchantABC"))


def asked(status: int, content: object = None, headers: dict[str, str] | None = None) -> Outcome:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    query = Query(CardToken(REFERENCE), ACCOUNT, "0" * 32, Secret(ACCESS_TOKEN))
    return parse(HttpResponse(status, headers or {}, body), query)


def failure(outcome: Outcome | AccessToken) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


# --- the access token


def test_the_request_for_an_access_token_is_the_pages_own() -> None:
    request = build_access_token(ACCOUNT)
    assert request.method == "POST"
    assert request.url == "https://api-uat.payments.paynow.afterpaytouch.dev/oauth2/token"
    assert request.body == b"grant_type=client_credentials"
    assert request.headers["Authorization"] == "Basic YWZ0ZXJwYXk6bWVyY2hhbnRBQkM="
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["User-Agent"] == ACCOUNT.user_agent


def test_access_tokens_can_be_had_from_another_host() -> None:
    account = AfterpayAccount(
        client_id="afterpay", client_secret=Secret("merchantABC"), auth_url="https://login.example.com/t"
    )
    assert build_access_token(account).url == "https://login.example.com/t"


def given(content: object, status: int = 200, headers: dict[str, str] | None = None) -> AccessToken | Failure:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_access_token(HttpResponse(status, headers or {}, body), ACCOUNT)


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),  # a text
        (1799.5, 1799.5),
        (None, 60.0),  # without a word it is taken to hold for a minute
        ("soon", 60.0),
        ([], 60.0),
        (0, 0.0),  # good for this one call
    ],
)
def test_an_access_token_comes_with_its_lifetime(expires_in: object, seconds: float) -> None:
    answer = given({"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": expires_in})
    assert answer == AccessToken(Secret(ACCESS_TOKEN), seconds)


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        " ",
        7,
        [ACCESS_TOKEN],
        "two\r\nlines: 1",  # it would begin another header
        "ünïcödé",  # it could not stand in a header
    ],
)
def test_an_answer_without_a_token_that_can_be_sent_is_a_protocol_failure(token: object) -> None:
    assert failure(given({"access_token": token, "expires_in": 3600})).category is Category.PROTOCOL


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"access_token": "\xff"}', b'{"access_token"'])
def test_an_answer_that_cannot_be_read_brings_no_access_token(body: bytes) -> None:
    outcome = failure(given(body))
    assert outcome.category is Category.PROTOCOL
    assert outcome.message.startswith("no access token")


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (201, Category.PROTOCOL),  # not what the page describes
        (302, Category.PROTOCOL),
        (400, Category.INVALID_REQUEST),
        (401, Category.AUTHENTICATION),  # the page's own: the credentials are wrong
        (403, Category.AUTHENTICATION),
        (404, Category.REJECTED),  # no token endpoint there: never a card token that was not found
        (429, Category.RATE_LIMITED),
        (500, Category.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"access_token": "x", "message": "words"}'])
def test_a_refused_request_for_an_access_token_is_judged_by_its_status(
    status: int, category: Category, body: bytes
) -> None:
    outcome = failure(given(body, status))
    assert (outcome.category, outcome.http_status) == (category, status)


def test_the_words_about_an_access_token_hold_no_credentials() -> None:
    words = f"wrong: merchantABC / Basic {BASIC}"
    outcome = failure(given({"errorCode": "bad_merchantABC", "message": words}, 401))
    assert outcome.message == "wrong: *** / Basic ***"
    assert outcome.code == "bad_***"


def test_a_token_endpoint_can_ask_to_be_left_alone() -> None:
    assert failure(given({}, 429, {"retry-after": "7"})).retry_after == 7.0
    assert failure(given(b"", 503, {"retry-after": "7"})).retry_after == 7.0


@pytest.mark.parametrize(("status", "refused"), [(401, True), (403, False), (200, False), (500, False)])
def test_only_a_401_says_that_the_access_token_is_no_longer_good(status: int, refused: bool) -> None:
    assert PROVIDER.access_tokens is not None
    assert PROVIDER.access_tokens.refused(HttpResponse(status, {}, b"")) is refused


# --- the status


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, Category.INVALID_REQUEST),
        (401, Category.AUTHENTICATION),
        (402, Category.REJECTED),  # listed nowhere: the client's fault, whatever it is
        (403, Category.AUTHENTICATION),
        (405, Category.INVALID_REQUEST),
        (406, Category.INVALID_REQUEST),
        (408, Category.TIMEOUT),
        (409, Category.INVALID_REQUEST),
        (415, Category.INVALID_REQUEST),
        (422, Category.INVALID_REQUEST),
        (425, Category.TIMEOUT),
        (429, Category.RATE_LIMITED),
        (500, Category.UNAVAILABLE),
        (502, Category.UNAVAILABLE),
        (503, Category.UNAVAILABLE),
        (504, Category.UNAVAILABLE),
        (599, Category.UNAVAILABLE),
        (204, Category.PROTOCOL),  # said to be well, without a card
        (302, Category.PROTOCOL),  # redirects are not followed
        (100, Category.PROTOCOL),
    ],
)
def test_the_status_decides_and_the_bodys_words_are_kept(status: int, category: Category) -> None:
    body = {"errorCode": "unsupported", "errorId": "f00", "message": "words", "httpStatusCode": 418}
    assert asked(status, body) == Failure(category, "words", code="unsupported", http_status=status)
    for unreadable in (b"", b"<html>", b"[1]", b'"\xff"'):
        outcome = failure(asked(status, unreadable))
        assert (outcome.category, outcome.code, outcome.http_status) == (category, None, status)
        assert str(status) in outcome.message


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"errorCode": "not_found", "message": "no such request"}'])
def test_a_404_is_not_found_whatever_its_body(body: bytes) -> None:
    assert asked(404, body) == NotFound()


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ({}, None, "Afterpay answered with HTTP status 500"),  # no words: ours
        ({"errorCode": None, "message": None}, None, "Afterpay answered with HTTP status 500"),
        ({"errorCode": 17, "message": 18}, "17", "18"),  # numbers are words too
        ({"errorCode": {}, "message": ["x"]}, None, "Afterpay answered with HTTP status 500"),
        ({"errorCode": "\x00", "message": "\r\n"}, None, "Afterpay answered with HTTP status 500"),
        ({"errorCode": "c", "message": "two\r\nlines"}, "c", "two lines"),
    ],
)
def test_code_and_message_are_kept_where_there_are_any(content: Any, code: str | None, message: str) -> None:
    outcome = failure(asked(500, content))
    assert (outcome.code, outcome.message) == (code, message)


@pytest.mark.parametrize("body", [b"", b"{}"])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:29 GMT"}, 30.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after_is_heard(headers: dict[str, str], seconds: float | None, body: bytes) -> None:
    assert failure(asked(429, body, headers)).retry_after == seconds


# --- what may be told


@pytest.mark.parametrize(
    "secret",
    [
        "merchantABC",  # the client secret
        ACCESS_TOKEN,
        REFERENCE,
        "4111-1111-1111-1111",  # a card number
        "jo.bloggs@example.com",
    ],
)
def test_neither_message_nor_code_holds_a_secret(secret: str) -> None:
    outcome = failure(asked(400, {"errorCode": secret, "message": f"cannot do <{secret}> now"}))
    assert outcome.message == "cannot do <***> now"
    assert outcome.code == "***"


def test_a_code_that_is_cut_does_not_keep_part_of_a_secret() -> None:
    outcome = failure(asked(400, {"errorCode": "x" * 50 + ACCESS_TOKEN}))
    assert outcome.code == "x" * 50 + "***"


@pytest.mark.parametrize("length", [501, 5_000, 100_000])
def test_a_long_message_is_cut_and_not_dropped(length: int) -> None:
    assert failure(asked(500, {"message": "m" * length})).message == "m" * 499 + "…"
