"""Times on the wire: RFC 3339 with an offset in, UTC with ``Z`` out."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardtoken.contract import format_time, parse_time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),  # RFC 3339, section 5.6: either case
        ("2026-01-31 12:00:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T13:30:00+01:30", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T00:00:00-12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5Z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_an_rfc_3339_time_is_read_as_utc(text: str, time: datetime) -> None:
    assert parse_time(text) == time
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",  # no offset
        "2026-01-31T12:00Z",  # no seconds
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00 Z",
        "2026-01-31T12:00:00+0100",
        "2026-W05-6T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00+24:00",
        "0001-01-01T00:00:00+01:00",
        "2026-01-31T12:00:00Z\n",
        "٢٠٢٦-01-31T12:00:00Z",
        1767225600,
        None,
        datetime(2026, 1, 31, 12),  # noqa: DTZ001 - a time of nowhere is what this row is about
    ],
)
def test_any_other_time_is_refused_in_words_that_do_not_quote_it(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z$"):
        parse_time(value)


FIRST, LAST = datetime(1, 1, 3), datetime(9999, 12, 30)  # noqa: DTZ001 - zones are drawn
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=13)), timezone(-timedelta(hours=3, minutes=30))])


@given(st.datetimes(FIRST, LAST, timezones=ZONES))
@settings(max_examples=100, deadline=None)
def test_a_time_comes_back_as_it_was_written(time: datetime) -> None:
    written = format_time(time)
    assert written.endswith("Z")
    assert parse_time(written) == time


def test_a_time_without_a_fraction_is_written_without_one() -> None:
    assert format_time(datetime(2026, 1, 31, 12, tzinfo=UTC)) == "2026-01-31T12:00:00Z"
    assert format_time(datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)) == "2026-01-31T12:00:00.000005Z"
