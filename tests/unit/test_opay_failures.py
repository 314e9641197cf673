"""OPay's adapter: codes, answers that cannot be read, and what may be told of them."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from cardtoken.contract import Category
from cardtoken.secret import CardToken
from tasks.http.messages import HttpResponse
from tasks.lookups.outcomes import Answer, Failure, Found, NotFound, Outcome
from tasks.providers.opay import CODES, OpayAccount, build, parse
from tasks.providers.provider import Query

KEY = "OPAYPRV16160617080050.388604510744898"
TOKEN = "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"

#: The page's sample of an error, as it stands there.
ERROR = """
                        {
                            "code": "20000",
                            "message": "Duplicate merchant order number",
                            "data": null
                        }
"""


def query(token: str = TOKEN, **account: Any) -> Query[OpayAccount]:
    return Query(
        CardToken(token), OpayAccount(**{"merchant_id": "256612345678901", "private_key": KEY, **account}), "0" * 32
    )


def asked(
    code: object, message: object = "words", status: int = 200, headers: dict[str, str] | None = None, **account: Any
) -> Outcome:
    data = {"opayToken": TOKEN}
    body = json.dumps({"code": code, "message": message, "data": data}).encode()
    return parse(HttpResponse(status, headers or {}, body), query(**account))


def failure(outcome: Outcome) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


def test_the_pages_sample_of_an_error_keeps_its_code_and_words() -> None:
    assert parse(HttpResponse(200, {}, ERROR.encode()), query()) == Failure(
        Category.REJECTED, "Duplicate merchant order number", code="20000", http_status=200
    )


#: What each code is treated as, written out a second time on purpose.
TREATED_AS = [
    ("09", Category.TIMEOUT),  # time out
    ("90", Category.UNAVAILABLE),  # system failure
    ("91", Category.UNAVAILABLE),  # refund error, please try again later
    ("96", Category.UNAVAILABLE),  # search order error, please try again later
    ("50003", Category.UNAVAILABLE),  # service not available
    ("02000", Category.AUTHENTICATION),  # authentication failed
    ("02002", Category.AUTHENTICATION),  # merchant not configured
    ("02007", Category.AUTHENTICATION),  # merchant not available
    ("02001", Category.INVALID_REQUEST),  # parameters not valid
    ("98", Category.INVALID_REQUEST),  # request header not valid
    ("99", Category.INVALID_REQUEST),  # channel parameters not valid
    ("97", Category.REJECTED),  # another operation's: creating a checkout session
    ("02003", Category.REJECTED),  # another operation's
    ("02004", Category.REJECTED),  # another operation's
    ("20000", Category.REJECTED),  # another operation's: a duplicate order
    ("77777", Category.REJECTED),  # a code that is not listed
    ("9", Category.REJECTED),  # a listed one without its zero is not listed
    ("000000", Category.REJECTED),  # nor is a success with a zero too many
    ("0", Category.REJECTED),  # nor with too few
    ("SUCCESSFUL", Category.REJECTED),  # nor is a word a code
]


@pytest.mark.parametrize(("code", "category"), TREATED_AS)
def test_a_code_becomes_its_category_and_keeps_its_words(code: str, category: Category) -> None:
    assert asked(code) == Failure(category, "words", code=code, http_status=200)


@pytest.mark.parametrize("code", ["02006", "02812", "00012"])
def test_a_code_that_says_there_is_no_such_token_is_not_found(code: str) -> None:
    assert asked(code) == NotFound()


def test_every_code_of_the_table_is_tested_above() -> None:
    tested = {code for code, _ in TREATED_AS} | {"02006", "02812", "00012", "00000", "00"}
    assert CODES.keys() <= tested


def test_a_code_that_is_a_number_is_read_as_its_digits() -> None:
    assert failure(asked(50003)).category is Category.UNAVAILABLE


@pytest.mark.parametrize("code", [None, "", " ", [], {}, True, 0.5])
def test_an_answer_without_a_code_is_a_protocol_failure(code: object) -> None:
    outcome = failure(asked(code))
    assert (outcome.category, outcome.code, outcome.http_status) == (Category.PROTOCOL, None, 200)
    assert outcome.may_pass


# --- the code and the status


STATUS_DECIDES = [
    (302, Category.PROTOCOL),
    (400, Category.INVALID_REQUEST),
    (401, Category.AUTHENTICATION),
    (403, Category.AUTHENTICATION),
    (405, Category.PROTOCOL),
    (408, Category.TIMEOUT),
    (418, Category.REJECTED),
    (429, Category.RATE_LIMITED),
    (500, Category.UNAVAILABLE),
    (502, Category.UNAVAILABLE),
    (503, Category.UNAVAILABLE),
    (504, Category.UNAVAILABLE),
    (529, Category.UNAVAILABLE),
]


@pytest.mark.parametrize(("status", "category"), STATUS_DECIDES)
@pytest.mark.parametrize("code", [503, "503", "SERVICE_UNAVAILABLE", "77777", 9, "0"])
def test_an_unlisted_code_with_an_error_status_lets_the_status_decide(
    status: int, category: Category, code: object
) -> None:
    outcome = asked(code, "Service Unavailable", status, {"retry-after": "7"})
    assert outcome == Failure(
        category, "Service Unavailable", code=str(code), http_status=status, retry_after=7.0, may_pass=False
    )


@pytest.mark.parametrize("status", [201, 202, 299])
def test_an_unlisted_code_with_a_status_of_success_is_rejected(status: int) -> None:
    assert failure(asked("77777", status=status)).category is Category.REJECTED


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("code", "category"), [("09", Category.TIMEOUT), (90, Category.UNAVAILABLE), ("97", "rejected")]
)
def test_a_listed_code_decides_with_any_status(status: int, code: object, category: str) -> None:
    assert failure(asked(code, status=status)).category == category
    assert isinstance(asked("00000", status=status), Found)
    assert asked("02006", status=status) == NotFound()


def test_an_override_is_a_row_of_the_table_and_decides_too() -> None:
    assert failure(asked(503, status=503, code_overrides={"503": "rejected"})).category is Category.REJECTED


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"message": "Service Unavailable"}, None, "Service Unavailable"),  # AWS, Kong
        ({"error": {"code": 503, "message": "upstream"}}, "503", "upstream"),  # Google
        ({"error": {"message": "upstream", "status": "UNAVAILABLE"}}, None, "upstream"),
        ({"error": "Service Unavailable", "status": 503, "path": "/api"}, None, "Service Unavailable"),  # Spring
        ({"error": "overloaded", "error_description": "Come back."}, "overloaded", "Come back."),
        ({"errors": [{"code": "E1", "detail": "busy"}, {"code": "E2"}]}, "E1", "busy"),
        ({"fault": {"faultstring": "quota", "detail": {"errorcode": "policies.Quota"}}}, "policies.Quota", "quota"),
        ({"type": "about:blank", "title": "Busy", "status": 503, "detail": "Wait."}, None, "Wait."),
        ({"Message": "busy", "Error_Code": "B"}, "B", "busy"),
        ({"code": None, "message": "busy"}, None, "busy"),
        ({"code": True, "message": "busy"}, None, "busy"),
        ({"code": {"a": 1}, "message": f"busy with {TOKEN}"}, None, "busy with ***"),
        ({"code": [], "message": ["busy"]}, None, "the provider answered with HTTP status 503"),
        ({"errors": [], "error": None, "fault": 7}, None, "the provider answered with HTTP status 503"),
    ],
)
def test_the_words_of_a_gateway_are_kept_and_its_status_decides(body: object, code: str | None, message: str) -> None:
    outcome = parse(HttpResponse(503, {"retry-after": "2.5"}, json.dumps(body).encode()), query())
    assert outcome == Failure(Category.UNAVAILABLE, message, code=code, http_status=503, retry_after=3.0)


def test_a_gateways_404_with_a_code_of_its_own_is_no_word_on_the_token() -> None:
    outcome = failure(asked(404, "Not Found", 404))
    assert (outcome.category, outcome.code, outcome.may_pass) == (Category.PROTOCOL, "404", True)
    assert "OPAY_BASE_URL" in outcome.message
    assert "Not Found" in outcome.message


@pytest.mark.parametrize("data", [None, [], ""])
def test_a_success_code_without_data_under_an_error_status_is_that_error(data: object) -> None:
    body = json.dumps({"code": "00000", "message": "SUCCESSFUL", "data": data}).encode()
    assert failure(parse(HttpResponse(503, {}, body), query())).category is Category.UNAVAILABLE
    assert failure(parse(HttpResponse(200, {}, body), query())).category is Category.PROTOCOL


# --- overrides


@pytest.mark.parametrize(
    ("code", "treated_as", "expected"),
    [
        ("50003", "rejected", Category.REJECTED),  # a built-in row changed
        ("77777", "timeout", Category.TIMEOUT),  # a row added
        ("02006", "invalid_request", Category.INVALID_REQUEST),  # no longer not found
    ],
)
def test_an_override_wins_over_the_table(code: str, treated_as: str, expected: Category) -> None:
    assert failure(asked(code, code_overrides={code: treated_as})).category is expected
    assert failure(asked(code, code_overrides=json.dumps({code: treated_as}))).category is expected


def test_an_override_can_mean_found_or_not_found() -> None:
    overrides = {"77777": "found", "97": "not_found", "00000": "rejected"}
    assert isinstance(asked("77777", code_overrides=overrides), Found)
    assert asked("97", code_overrides=overrides) == NotFound()
    assert failure(asked("00000", code_overrides=overrides)).category is Category.REJECTED


def test_overrides_leave_the_other_rows_as_they_are() -> None:
    assert failure(asked("90", code_overrides={"09": "rejected"})).category is Category.UNAVAILABLE
    assert CODES["09"] is Category.TIMEOUT
    assert CODES["00"] is Answer.FOUND


@pytest.mark.parametrize(
    "overrides",
    [
        "nope",  # not JSON
        "[]",  # not an object
        pytest.param("[" * 100_000, id="nested"),  # not to be read without overflowing the stack
        '{"09": "maybe"}',  # no category
        '{"09": 5}',  # not even a word
        '{"": "rejected"}',  # no code
        {"09": None},
    ],
)
def test_an_override_that_says_nothing_is_refused_without_being_quoted(overrides: object) -> None:
    with pytest.raises(ValidationError, match="code_overrides") as caught:
        query(code_overrides=overrides)
    assert "maybe" not in str(caught.value)
    assert KEY not in str(caught.value)


# --- answers that cannot be read


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (200, Category.PROTOCOL),  # said to be well, and not to be understood
        (302, Category.PROTOCOL),  # redirects are not followed
        (400, Category.INVALID_REQUEST),
        (401, Category.AUTHENTICATION),
        (403, Category.AUTHENTICATION),
        (404, Category.PROTOCOL),  # of a gateway before OPay: never said of the card token
        (408, Category.TIMEOUT),
        (418, Category.REJECTED),
        (429, Category.RATE_LIMITED),
        (500, Category.UNAVAILABLE),
        (503, Category.UNAVAILABLE),
        (599, Category.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",  # nothing
        b"<html>Bad gateway</html>",  # what proxies say
        b'{"code": "00000"',  # an answer that was cut off
        b'{"code": "90\xff"}',  # not UTF-8
        b'["00000"]',  # JSON, but no object
        b"{}",  # an object without a code
        b'{"code": NaN}',  # what Python alone calls JSON
        pytest.param(b"[" * 100_000, id="nested"),  # without end
    ],
)
def test_the_status_decides_where_the_body_cannot_be_read(status: int, category: Category, body: bytes) -> None:
    outcome = failure(parse(HttpResponse(status, {}, body), query()))
    assert (outcome.category, outcome.http_status, outcome.code) == (category, status, None)
    assert outcome.may_pass is (status in {200, 404})


def test_a_404_of_something_else_names_the_setting_to_look_at() -> None:
    assert "OPAY_BASE_URL" in failure(parse(HttpResponse(404, {}, b"nginx"), query())).message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:29 GMT"}, 30.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after_is_heard_with_and_without_a_body(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(asked("90", headers=headers)).retry_after == seconds
    assert failure(parse(HttpResponse(503, headers, b""), query())).retry_after == seconds


# --- what may be told


SIGNATURE = build(query()).headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    "secret",
    [
        KEY,  # the private key
        TOKEN,  # the reference
        SIGNATURE,  # what stands for the key in this one request
        "4111111111111111",  # a card number
        "4111 1111 1111 1111",  # the same as people write it
        "jo.bloggs+opay@example.co.uk",  # an e-mail address
    ],
)
def test_a_message_holds_no_secret_and_nothing_personal(secret: str) -> None:
    outcome = failure(asked("97", message=f"cannot do <{secret}> now"))
    assert outcome.message == "cannot do <***> now"


def test_a_code_holds_no_secret_and_no_part_of_one() -> None:
    long_token = "OPAY_TOKEN_" + "0123456789abcdef" * 8
    body = json.dumps({"code": f"no {long_token}", "message": "words"}).encode()
    outcome = failure(parse(HttpResponse(200, {}, body), query(long_token)))
    assert outcome.code == "no ***"


def test_a_percent_encoded_reference_is_found_too() -> None:
    body = json.dumps({"code": "97", "message": "no a%20b%2Fc%3Dtoken here"}).encode()
    assert failure(parse(HttpResponse(200, {}, body), query("a b/c=token"))).message == "no *** here"


@pytest.mark.parametrize("length", [501, 1025, 100_000])
def test_a_long_message_is_cut_and_not_dropped(length: int) -> None:
    outcome = failure(asked("97", message="word " * (length // 5 + 1)))
    assert len(outcome.message) == 500
    assert outcome.message.startswith("word word")


def test_a_long_code_is_cut() -> None:
    assert len(failure(asked("c" * 1000)).code or "") == 64


@pytest.mark.parametrize("message", [None, "", "  ", "\x00\n", 7.5, {}, [], "\ud800"])
def test_an_answer_without_words_gets_ours(message: object) -> None:
    assert failure(asked("97", message=message)).message == "OPay gave no message"
