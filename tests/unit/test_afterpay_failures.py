"""Afterpay's adapter: access tokens, statuses, and what may be told of an answer."""

import json
from typing import Any

import pytest

from cardtoken.contract import Category
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpResponse
from tasks.lookups.outcomes import Failure, NotFound, Outcome
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
        ("1799.5", 1799.5),
        (" 3600 ", 3600.0),
        (-1, 60.0),  # what some say of a token without an end
        ("-3600", 60.0),
        (True, 60.0),
        (10**12, 1e12),  # longer than any process lives
        ("1e400", 60.0),  # no number of seconds
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
    assert outcome.may_pass


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (302, Category.PROTOCOL),
        (400, Category.AUTHENTICATION),  # RFC 6749's status for most errors, a wrong secret among them
        (401, Category.AUTHENTICATION),  # the page's own: the credentials are wrong
        (402, Category.AUTHENTICATION),
        (403, Category.AUTHENTICATION),
        (404, Category.AUTHENTICATION),  # never a card token that was not found
        (405, Category.AUTHENTICATION),
        (406, Category.AUTHENTICATION),
        (409, Category.AUTHENTICATION),
        (415, Category.AUTHENTICATION),
        (422, Category.AUTHENTICATION),
        (499, Category.AUTHENTICATION),
        (408, Category.TIMEOUT),
        (425, Category.TIMEOUT),
        (429, Category.RATE_LIMITED),
        (500, Category.UNAVAILABLE),
        (503, Category.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", None, "no access token: HTTP status "),
        (b"<html>", None, "no access token: HTTP status "),
        (b"{}", None, "no access token: HTTP status "),
        (b'{"error": "invalid_client"}', "invalid_client", "no access token: HTTP status "),
        (b'{"error": "invalid_client", "error_description": "Wrong secret."}', "invalid_client", "Wrong secret."),
        (b'{"access_token": "x", "message": "words"}', None, "words"),
    ],
)
def test_a_refused_request_for_an_access_token_is_authentication_unless_it_passes_by_itself(
    status: int, category: Category, body: bytes, code: str | None, message: str
) -> None:
    outcome = failure(given(body, status))
    assert (outcome.category, outcome.http_status, outcome.code) == (category, status, code)
    assert outcome.message.startswith(message)
    assert not outcome.may_pass


def test_a_token_endpoint_that_is_not_there_names_the_setting_to_look_at() -> None:
    for status in (302, 404, 405):
        assert "AFTERPAY_AUTH_URL" in failure(given(b"", status)).message


@pytest.mark.parametrize(
    ("error", "category"),
    [
        ("invalid_client", Category.AUTHENTICATION),
        ("unauthorized_client", Category.AUTHENTICATION),
        ("temporarily_unavailable", Category.UNAVAILABLE),
        ("server_error", Category.UNAVAILABLE),
    ],
)
def test_a_refusal_under_a_status_of_success_is_a_refusal(error: str, category: Category) -> None:
    outcome = failure(given({"error": error, "error_description": "Wrong."}))
    assert (outcome.category, outcome.code, outcome.message) == (category, error, "Wrong.")


def test_an_access_token_may_come_with_any_status_of_success() -> None:
    assert given({"access_token": ACCESS_TOKEN, "expires_in": 5}, 201) == AccessToken(Secret(ACCESS_TOKEN), 5.0)


@pytest.mark.parametrize("names", [("errorCode", "message"), ("error", "error_description")])
def test_the_words_about_an_access_token_hold_no_credentials(names: tuple[str, str]) -> None:
    words = f"wrong: merchantABC / Basic {BASIC} of afterpay"
    outcome = failure(given(dict(zip(names, ("bad_merchantABC", words), strict=True)), 401))
    assert outcome.message == "wrong: *** / Basic *** of ***"
    assert outcome.code == "bad_***"


def test_a_token_endpoint_can_ask_to_be_left_alone() -> None:
    assert failure(given({}, 429, {"retry-after": "7"})).retry_after == 7.0
    assert failure(given(b"", 503, {"retry-after": "7"})).retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "refused"), [(401, True), (403, True), (200, False), (400, False), (404, False), (500, False)]
)
def test_a_401_and_a_403_say_that_the_access_token_is_no_longer_good(status: int, refused: bool) -> None:
    assert PROVIDER.access_tokens is not None
    assert PROVIDER.access_tokens.refused(HttpResponse(status, {}, b"")) is refused


# --- the status


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, Category.INVALID_REQUEST),
        (401, Category.AUTHENTICATION),
        (402, Category.REJECTED),  # listed nowhere: the client's fault, of an unknown kind
        (403, Category.AUTHENTICATION),
        (405, Category.PROTOCOL),  # of this service's own request: nothing that a producer could mend
        (406, Category.PROTOCOL),
        (408, Category.TIMEOUT),
        (409, Category.INVALID_REQUEST),
        (415, Category.PROTOCOL),
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


@pytest.mark.parametrize(
    "content",
    [
        {"errorCode": "not_found", "errorId": "f00", "message": "no such request", "httpStatusCode": 404},
        {"errorCode": "not_found", "message": "Not Found"},
        {"message": "The card verification was not found."},
        {"message": "No verification for this originalRequestId."},
        {"error": "not_found"},
        {"code": "VERIFICATION_NOT_FOUND", "message": "Not found"},
        {"error": {"code": "not_found", "message": "Unknown request."}},
        {"errors": [{"code": "E404", "title": "Unknown request"}]},
        {"title": "Not Found", "status": 404, "detail": "No card verification has this id."},
        {},
    ],
)
def test_a_404_with_the_providers_json_is_not_found(content: object) -> None:
    assert asked(404, content) == NotFound()


#: What gateways and frameworks answer for a path that they do not know, as their defaults write it.
PATH_404S: list[object] = [
    b"",
    b"default backend - 404",  # ingress-nginx
    b"404 page not found\n",  # CallNow, Traefik
    b"<html><head><title>404 Not Found</title></head></html>",  # nginx, Apache
    b"Cannot GET /v1/cards/verification",  # Express
    b'"not found"',
    b"null",
    b"[]",
    b'{"message": "no Rou',
    {"timestamp": "2026-11-25T12:00:00Z", "status": 404, "error": "Not Found", "path": "/v1/cards/verification"},
    {"timestamp": 1, "status": 404, "error": "Not Found", "message": "No message available", "path": "/v1/x"},
    {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "No static resource v1/cards."},  # Spring 6
    {"type": "https://tools.ietf.org/html/rfc9110#section-15.5.5", "title": "Not Found", "status": 404, "traceId": "0"},
    {"message": "no Route matched with those values", "request_id": "f00"},  # Kong
    {"message": "Not Found"},  # AWS API Gateway
    {"message": "Missing Authentication Token"},
    {"errorCode": None, "message": "Not Found"},
    {"statusCode": 404, "message": "Resource not found"},  # Azure API Management
    {"detail": "Not Found"},  # FastAPI
    {"detail": "Not found."},  # Django
    {"statusCode": 404, "message": "Cannot GET /v1/cards/verification", "error": "Not Found"},  # NestJS
    {"message": "Route GET:/v1/cards/verification not found", "error": "Not Found", "statusCode": 404},  # Fastify
    {"message": "The requested URL was not found on the server."},  # Flask
    {"error_msg": "404 Route Not Found"},  # APISIX
    {"fault": {"faultstring": "Unable to identify proxy for host: x and url: /", "detail": {"errorcode": "f.No"}}},
    {"code": 5, "message": "Not Found", "details": []},  # gRPC gateway
    {"message": "The current request is not defined by this API."},  # Google Cloud Endpoints
    {"status": 404, "error": "Not Found"},  # Rails
    {"message": "Not Found", "_links": {"self": {"href": "/v1/cards/verification"}}},  # Micronaut
    {"code": 404, "message": "HTTP 404 Not Found"},  # Dropwizard
    {"error": {"code": "404", "message": "The page could not be found"}},
]


@pytest.mark.parametrize("content", PATH_404S, ids=[str(number) for number in range(len(PATH_404S))])
def test_a_404_of_what_stands_before_afterpay_says_nothing_of_the_card(content: object) -> None:
    outcome = failure(asked(404, content))
    assert (outcome.category, outcome.http_status, outcome.may_pass) == (Category.PROTOCOL, 404, True)
    assert "AFTERPAY_BASE_URL" in outcome.message


def test_a_gateways_404_keeps_its_words() -> None:
    content = {"code": "ROUTE", "message": f"no Route matched {REFERENCE}"}
    outcome = failure(asked(404, content))
    assert outcome.code == "ROUTE"
    assert outcome.message == (
        "no Afterpay API at this URL: look at AFTERPAY_BASE_URL; the answer says: no Route matched ***"
    )


@pytest.mark.parametrize("content", [{}, {"message": "try later"}, b"", b"<html>", b"null", b"[]", b'{"tok'])
def test_a_200_that_is_not_afterpays_may_pass(content: object) -> None:
    outcome = failure(asked(200, content))
    assert (outcome.category, outcome.may_pass) == (Category.PROTOCOL, True)


def test_afterpays_own_success_without_a_token_does_not_pass() -> None:
    outcome = failure(asked(200, {"id": "1", "receiptId": "2"}))
    assert (outcome.category, outcome.may_pass) == (Category.PROTOCOL, False)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ({}, None, "the provider answered with HTTP status 500"),  # no words: ours
        ({"errorCode": None, "message": None}, None, "the provider answered with HTTP status 500"),
        ({"errorCode": 17, "message": 18}, "17", "18"),  # numbers are words too
        ({"errorCode": {}, "message": ["x"]}, None, "the provider answered with HTTP status 500"),
        ({"errorCode": "\x00", "message": "\r\n"}, None, "the provider answered with HTTP status 500"),
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
