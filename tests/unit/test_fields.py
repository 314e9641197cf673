"""Reading a provider's fields: tolerant of how a value is written, strict about what it says."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardtoken.contract import Brand, Funding
from tasks.providers import fields

TOMORROW = datetime.now(UTC) + timedelta(days=2)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(),
    st.from_regex(r"[-+]?[0-9_.]{1,20}([eE][-+]?[0-9]{1,4})?", fullmatch=True),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.text()),
)


@given(ANYTHING)
@settings(max_examples=150, deadline=None)
def test_any_value_of_a_field_gives_one_of_its_kind_or_none(value: object) -> None:
    text = fields.text(value)
    assert text is None or (0 < len(text) <= 1024 and text == text.strip() and text.encode())
    assert fields.digits(value, 4) is None or len(str(fields.digits(value, 4))) == 4
    for year, month in (fields.expiry(value, "02"), fields.expiry("26", value), fields.expiry(value, value)):
        assert (year is None) is (month is None), "both halves or neither"
        assert year is None or 2010 <= year <= 2099
        assert month is None or 1 <= month <= 12
    assert fields.brand(value) in {None, *Brand}
    assert fields.funding(value) in {None, *Funding}
    country = fields.country(value)
    assert country is None or (len(country) == 2 and country.isupper())
    created = fields.unix_time(value)
    assert created is None or (created.tzinfo is UTC and datetime(2010, 1, 1, tzinfo=UTC) <= created <= TOMORROW)
    amount = fields.amount(value)
    assert amount is None or (Decimal(amount).is_finite() and len(amount) < 100 and "E" not in amount.upper())


# --- the body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", {}),
        (b' \n{"a": 1}\t', {"a": 1}),
        (b'{"a": 0.10}', {"a": Decimal("0.10")}),  # a fraction keeps its digits
        ('{"a": "ü✓😀"}'.encode(), {"a": "ü✓😀"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),  # the last one counts, as everywhere
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),  # a byte order mark
        (b'\r\n\xef\xbb\xbf \n{"a": 1}', {"a": 1}),  # after an empty line
        (b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}', {"a": 1}),  # two, of a page that was put together from two files
        ('{"a": "ü"}'.encode("utf-16"), {"a": "ü"}),  # encodings that show in the first bytes
        ('{"a": "ü"}'.encode("utf-16-le"), {"a": "ü"}),
        ('{"a": "ü"}'.encode("utf-32"), {"a": "ü"}),
        (b'{"a": "x\ty"}', {"a": "x\ty"}),  # a raw tab
        (b'{"a": "x\r\ny"}', {"a": "x\r\ny"}),  # a raw line break
        (b'{"a": "x\x01\x1f\x00y"}', {"a": "x\x01\x1f\x00y"}),
        (b'{"a": 1}\x00', {"a": 1}),  # the end of a text in C
        (b'{"a": 1} \x00\x00\n', {"a": 1}),
    ],
)
def test_a_json_object_is_read(body: bytes, expected: dict[str, object]) -> None:
    assert fields.json_object(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"{",
        b'{"a": 1} more',
        b"{'a': 1}",
        b'{"a": NaN}',  # Python's own idea of JSON
        b'{"a": -Infinity}',
        b'{"a": "\xe9"}',  # Latin-1
        "{'a': 1}".encode("utf-16"),
        b"\xef\xbb\xbf",  # a byte order mark and nothing else
        b"\x00\x00",
        b'{"a": "\x00',
        b'{"a": 1e99999999999999999999}',  # an exponent that no decimal has
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="5000 digits"),  # more than Python reads
        pytest.param(b"[" * 100_000, id="lists without end"),
        pytest.param(b'{"a":' * 100_000, id="objects without end"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(fields.UnreadableError) as caught:
        fields.json_object(body)
    assert str(caught.value).startswith("the answer is not ")


# --- one field


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("VISA", "VISA"),
        ("  VISA\n", "VISA"),
        (17, "17"),  # a number is its digits
        (0, "0"),
        (-5, "-5"),
        ("", None),
        (" ", None),
        (True, None),
        (1.5, None),
        (Decimal("1.5"), None),
        ([], None),
        ("\ud800", None),  # half a pair cannot be written as UTF-8
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, None),
    ],
)
def test_a_text_is_a_text_or_a_whole_number(value: object, expected: str | None) -> None:
    assert fields.text(value) == expected


def test_prose_may_be_of_any_length() -> None:
    assert fields.prose(" " + "x" * 5000) == "x" * 5000
    assert fields.prose("\ud800") is None
    assert fields.prose([]) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7411", "7411"),
        ("0007", "0007"),
        (7411, "7411"),
        (7, None),  # whose zeros are lost, and are not made up
        ("741", None),
        ("74110", None),
        ("741x", None),
        ("٧٤١١", None),  # digits of another script
        ("²²²²", None),
        (True, None),
    ],
)
def test_digits_are_exactly_so_many(value: object, expected: str | None) -> None:
    assert fields.digits(value, 4) == expected


@pytest.mark.parametrize(
    ("year", "month", "expected"),
    [
        ("26", "02", (2026, 2)),  # as on the card
        (26, 2, (2026, 2)),  # as numbers, which have no zero before them
        ("2026", "12", (2026, 12)),
        (2026, 12, (2026, 12)),
        (" 26 ", "\t02", (2026, 2)),
        ("99", "12", (2099, 12)),
        ("00", "00", None),  # what stands for no expiry
        ("00", "12", None),
        ("26", "00", None),
        ("0000", "00", None),
        (0, 0, None),
        ("26", "13", None),
        ("26", "99", None),
        ("26", None, None),  # a lone half
        (None, "02", None),
        ("26", "", None),
        ("", "02", None),
        ("5", "02", None),  # one digit
        (5, 2, None),
        ("26", "2", None),
        ("026", "02", None),  # neither two digits nor four
        ("20266", "02", None),
        ("26", "002", None),
        ("09", "02", None),  # no card that is stored today expired then
        ("1999", "12", None),
        ("0026", "02", None),
        ("2100", "01", None),
        ("9999", "12", None),  # what stands for no end
        ("'26", "02", None),
        ("-6", "02", None),
        ("26", "-2", None),
        (26, -2, None),
        ("٢٦", "٠٢", None),  # digits of another script
        (True, True, None),
        (Decimal("26.0"), Decimal("2.0"), None),
        (["26"], {"02": 1}, None),
    ],
)
def test_an_expiry_has_both_halves_or_neither(year: object, month: object, expected: tuple[int, int] | None) -> None:
    assert fields.expiry(year, month) == (expected or (None, None))


SAMPLE_TIME = datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1637822753", SAMPLE_TIME),
        (1637822753, SAMPLE_TIME),
        (1637822753000, SAMPLE_TIME),  # milliseconds
        ("1637822753999", SAMPLE_TIME),
        (Decimal("1637822753.9"), SAMPLE_TIME),
        (Decimal("1.637822753E+9"), SAMPLE_TIME),
        (" 1637822753 ", SAMPLE_TIME),
        (1262304000, datetime(2010, 1, 1, tzinfo=UTC)),
        (1262303999, None),  # before there were card tokens
        (0, None),  # what stands for no time
        ("0", None),
        (-1, None),
        (20211125, None),  # a date as a number, in all lengths
        (2021112506, None),
        (202111250645, None),
        (20211125064553, None),
        ("20211125", None),
        (1637822753000000, None),  # microseconds
        (1637822753000000000, None),
        (4102444800, None),  # a time to come
        (10**15, None),
        ("1_637_822_753", None),  # what Python alone calls a number
        ("١٦٣٧٨٢٢٧٥٣", None),
        ("2021-11-25T06:45:53Z", None),
        ("NaN", None),
        ("Infinity", None),
        (Decimal("NaN"), None),
        (Decimal("-Infinity"), None),
        (True, None),
    ],
)
def test_a_time_is_seconds_or_milliseconds_in_the_years_of_card_tokens(
    value: object, expected: datetime | None
) -> None:
    assert fields.unix_time(value) == expected


def test_a_clock_that_is_ahead_makes_a_time_of_minutes_to_come() -> None:
    now = datetime.now(UTC)
    assert fields.unix_time(int(now.timestamp()) + 600) is not None
    assert fields.unix_time(int(now.timestamp()) + 2 * 86_400) is None


# Written out, such a number takes many seconds; one with a few digits more takes a worker's thread for ever.
@pytest.mark.parametrize("written", ["1e300000", "-1e300000", "1e-300000", "0e300000"])
def test_a_number_with_an_enormous_exponent_costs_no_time(written: str) -> None:
    started = perf_counter()
    value: Any = fields.json_object(f'{{"a": {written}}}'.encode())["a"]
    for each in (value, written):
        assert fields.unix_time(each) is None
        assert fields.amount(each) is None
    assert perf_counter() - started < 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (123, "123"),
        (Decimal("0.10"), "0.10"),
        ("1234.5", "1234.5"),
        (Decimal("1E+3"), "1000"),
        ("-5", "-5"),
        (int("9" * 30), "9" * 30),
        (int("9" * 31), None),  # no credit limit any more
        (Decimal("0." + "1" * 31), None),
        ("1e400", None),
        ("1,000", None),  # whose comma means one thing or another
        ("1_000", None),
        ("١٢", None),
        ("$5", None),
        ("NaN", None),
        (True, None),
        (1.5, None),  # a float has lost the digits that were written
    ],
)
def test_an_amount_is_a_decimal_in_plain_notation(value: object, expected: str | None) -> None:
    assert fields.amount(value) == expected


@pytest.mark.parametrize("value", [None, "", " ", True, ["VISA"], {}, 1.5])
def test_a_value_that_is_not_a_word_is_neither_a_brand_nor_a_funding_nor_a_country(value: object) -> None:
    assert fields.brand(value) is None
    assert fields.funding(value) is None
    assert fields.country(value) is None


def test_a_word_is_read_as_what_it_should_be() -> None:
    assert fields.brand("VISA debit") is Brand.VISA
    assert fields.funding("pre-paid") is Funding.PREPAID
    assert fields.country("UK") == "GB"
    assert fields.country(36) is None  # a number has lost its zeros, and may be one for telephones


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none()))
@settings(max_examples=50, deadline=None)
def test_every_json_object_is_read_back(content: dict[str, object]) -> None:
    assert fields.json_object(json.dumps(content).encode()) == content
