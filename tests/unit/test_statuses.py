"""HTTP statuses and Retry-After, by RFC 9110."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cardtoken.contract import Category
from cardtoken.secret import Secret
from tasks.http.messages import HttpResponse
from tasks.providers.statuses import STATUSES, category_of, failure_of, no_such_url, protocol_failure, retry_after


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, Category.INVALID_REQUEST),
        (401, Category.AUTHENTICATION),
        (402, Category.REJECTED),  # of the client's class, and not in the table
        (403, Category.AUTHENTICATION),
        (404, Category.PROTOCOL),  # a gateway's: whether it is about a token only an adapter knows
        (405, Category.PROTOCOL),  # of this service's own request: nothing that a producer could mend
        (406, Category.PROTOCOL),
        (408, Category.TIMEOUT),
        (409, Category.INVALID_REQUEST),
        (415, Category.PROTOCOL),
        (422, Category.INVALID_REQUEST),
        (425, Category.TIMEOUT),
        (429, Category.RATE_LIMITED),
        (499, Category.REJECTED),
        (500, Category.UNAVAILABLE),
        (599, Category.UNAVAILABLE),
        (999, Category.UNAVAILABLE),
        (100, Category.PROTOCOL),  # never a final answer
        (204, Category.PROTOCOL),
        (304, Category.PROTOCOL),
        (0, Category.PROTOCOL),
        (-1, Category.PROTOCOL),
    ],
)
def test_a_status_is_judged_by_the_table_and_then_by_its_class(status: int, category: Category) -> None:
    assert category_of(status) is category


def test_no_status_becomes_a_failure_of_this_service() -> None:
    assert {category_of(status) for status in range(-1, 1000)}.isdisjoint({Category.INTERNAL, Category.EXPIRED})


def test_a_failure_says_the_status_and_when_to_come_back() -> None:
    failure = failure_of(HttpResponse(503, {"retry-after": "9"}, b"a page"), ())
    assert (failure.category, failure.http_status, failure.retry_after) == (Category.UNAVAILABLE, 503, 9.0)
    assert failure.message == "the provider answered with HTTP status 503"
    assert failure.code is None


def test_a_failure_keeps_the_words_of_its_body_without_the_secrets() -> None:
    body = b'{"code": "bad_s3cret", "message": "no s3cret here"}'
    failure = failure_of(HttpResponse(400, {}, body), (Secret("s3cret"), None))
    assert (failure.category, failure.code, failure.message) == (Category.INVALID_REQUEST, "bad_***", "no *** here")


def test_a_failure_without_words_of_its_own_takes_those_that_are_given() -> None:
    failure = failure_of(HttpResponse(400, {}, b"{}"), (), "words", Category.AUTHENTICATION)
    assert (failure.category, failure.code, failure.message) == (Category.AUTHENTICATION, None, "words")


@pytest.mark.parametrize("status", [302, 400, 404, 405, 406, 415, 429, 503])
def test_only_a_404_is_a_protocol_failure_that_may_pass(status: int) -> None:
    assert failure_of(HttpResponse(status, {}, b""), ()).may_pass is (status == 404)


@pytest.mark.parametrize("said", ["default backend", "x" * 1000])
def test_a_404_of_a_gateway_names_the_setting_and_keeps_the_words(said: str) -> None:
    failure = no_such_url(
        HttpResponse(404, {}, b'{"code": 7, "message": "%s"}' % said.encode()), (), "Acme", "ACME_URL"
    )
    assert failure.message.startswith("no Acme API at this URL: look at ACME_URL; ")
    assert said[:100] in failure.message
    assert len(failure.message) <= 500
    assert (failure.category, failure.code, failure.may_pass) == (Category.PROTOCOL, "7", True)


def test_an_answer_not_to_be_believed_is_a_protocol_failure_with_any_status() -> None:
    failure = protocol_failure(HttpResponse(503, {"retry-after": "9"}, b""), "words")
    assert (failure.category, failure.message, failure.http_status) == (Category.PROTOCOL, "words", 503)


@pytest.mark.parametrize("category", sorted({*STATUSES.values()}))
def test_the_table_knows_only_what_a_provider_can_be_blamed_for(category: Category) -> None:
    assert category not in {Category.INTERNAL, Category.EXPIRED}


# --- Retry-After


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0000000000007", 7.0),  # zeros before it change nothing
        ("1000000000", 1e9),
        pytest.param("9" * 400, 1e9, id="400 digits"),  # longer than anyone waits, and still a number
        ("", None),
        ("-1", None),
        ("15.5", 16.0),  # a fraction is rounded up
        ("15.0", 15.0),
        ("0.001", 1.0),
        ("0.0", 0.0),
        (".5", 1.0),
        ("15.", 15.0),
        ("15,5", 16.0),  # the comma of other countries
        ("9" * 400 + ".5", 1e9),
        ("5, 7.5", 8.0),  # the header twice: the longer wait
        ("-1.5", None),
        ("1.5.5", None),
        ("nan", None),
        ("inf", None),
        ("5, soon", None),
        ("1e3", None),
        ("٧", None),  # a digit, but not of HTTP's
        ("²", None),
        ("soon", None),
        ("120 seconds", None),
    ],
)
def test_seconds_are_a_number_that_is_rounded_up(text: str, seconds: float | None) -> None:
    assert retry_after(HttpResponse(503, {"retry-after": text}, b"")) == seconds


def test_without_the_header_no_wait_was_asked_for() -> None:
    assert retry_after(HttpResponse(503, {}, b"")) is None


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59.0),  # the form of today
        ("Friday, 31-Dec-99 23:59:59 GMT", 59.0),  # that of RFC 850
        ("Fri Dec 31 23:59:59 1999", 59.0),  # that of C
        ("Fri, 31 Dec 1999 23:59:59 -0000", 59.0),  # a zone that says that it is not known
        ("Sat, 01 Jan 2000 00:59:59 +0100", 59.0),
        ("Fri, 31 Dec 1999 23:00:00 GMT", 0.0),  # past: now
        ("Fri, 99 Dec 1999 23:59:59 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 1999 23:59:59 +99999999999999999999", None),  # a zone beyond every clock
    ],
)
def test_a_date_counts_from_the_servers_own_clock(date: str, seconds: float | None) -> None:
    headers = {"retry-after": date, "date": "Fri, 31 Dec 1999 23:59:00 GMT"}
    assert retry_after(HttpResponse(503, headers, b"")) == seconds


@pytest.mark.parametrize("own", [{}, {"date": "whenever"}])
def test_a_date_counts_from_this_clock_where_the_server_tells_none(own: dict[str, str]) -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    seconds = retry_after(HttpResponse(503, {"retry-after": format_datetime(until, usegmt=True), **own}, b""))
    assert seconds is not None
    assert 90 < seconds <= 100


HEADER = st.text(st.characters(max_codepoint=0x2FF), max_size=60) | st.from_regex(
    r"[A-Z][a-z]{2}, ?\d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d{1,3}(:\d{1,3})?( [-+]\d{1,9}| GMT)?", fullmatch=True
)


@given(HEADER, HEADER)
@example("Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359")
@settings(max_examples=150, deadline=None)
def test_any_headers_give_a_wait_or_none(after: str, date: str) -> None:
    seconds = retry_after(HttpResponse(503, {"retry-after": after, "date": date}, b""))
    assert seconds is None or 0 <= seconds < float("inf")
