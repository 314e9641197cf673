"""Reading a provider's fields: tolerant of how a value is written, strict about what it says."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardtoken.contract import Brand, Funding
from tasks.providers import fields

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
def test_whatever_a_field_holds_the_answer_is_one_of_its_kind_or_none(value: object) -> None:
    text = fields.text(value)
    assert text is None or (0 < len(text) <= 1024 and text == text.strip() and text.encode())
    assert fields.digits(value, 4) is None or len(str(fields.digits(value, 4))) == 4
    assert fields.month(value) is None or 1 <= int(str(fields.month(value))) <= 12
    assert fields.year(value) is None or 2000 <= int(str(fields.year(value))) <= 2099
    assert fields.brand(value) in {None, *Brand}
    assert fields.funding(value) in {None, *Funding}
    country = fields.country(value)
    assert country is None or (len(country) == 2 and country.isupper())
    created = fields.unix_time(value)
    assert created is None or created.tzinfo is UTC
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
        b"\xef\xbb\xbf{}",  # a byte order mark
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 1e99999999999999999999}',  # an exponent that no decimal has
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="5000 digits"),  # more than Python reads
        pytest.param(b"[" * 100_000, id="lists without end"),
        pytest.param(b'{"a":' * 100_000, id="objects without end"),
    ],
)
def test_what_is_no_json_object_is_unreadable(body: bytes) -> None:
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
    ("value", "expected"),
    [("02", 2), (2, 2), ("12", 12), ("0", None), ("13", None), ("-1", None), ("١", None), (1.0, None), ("00002", None)],
)
def test_a_month_is_one_of_twelve(value: object, expected: int | None) -> None:
    assert fields.month(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("26", 2026),  # as on the card
        (26, 2026),
        ("00", 2000),
        ("99", 2099),
        (5, 2005),
        ("2026", 2026),
        (2026, 2026),
        (" 26 ", 2026),
        ("1999", None),  # before there were tokens
        ("2100", None),
        ("026", None),  # neither two digits nor four
        ("20266", None),
        ("'26", None),
    ],
)
def test_a_year_of_two_digits_is_in_this_century(value: object, expected: int | None) -> None:
    assert fields.year(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("1637822753", datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC)),
        (Decimal("1637822753.9"), datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC)),
        (Decimal("1.637822753E+9"), datetime(2021, 11, 25, 6, 45, 53, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (10**15, None),  # a year that no calendar has
        ("1_637_822_753", None),  # what Python alone calls a number
        ("١٦٣٧٨٢٢٧٥٣", None),
        ("NaN", None),
        ("Infinity", None),
        (Decimal("NaN"), None),
        (Decimal("-Infinity"), None),
        (True, None),
    ],
)
def test_a_time_is_seconds_since_1970(value: object, expected: datetime | None) -> None:
    assert fields.unix_time(value) == expected


# Written out, such a number takes many seconds; one with a few digits more takes a worker's thread for ever.
@pytest.mark.parametrize("written", ["1e300000", "-1e300000", "1e-300000", "0e300000"])
def test_a_number_with_an_enormous_exponent_costs_no_time(written: str) -> None:
    started = perf_counter()
    value: Any = fields.json_object(f'{{"a": {written}}}'.encode())["a"]
    for each in (value, written):
        assert fields.unix_time(each) in {None, datetime(1970, 1, 1, tzinfo=UTC)}
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


@pytest.mark.parametrize(
    ("word", "brand"),
    [
        ("VISA", Brand.VISA),
        ("visa debit", Brand.VISA),
        ("MasterCard", Brand.MASTERCARD),
        ("MASTER_CARD", Brand.MASTERCARD),
        ("MC", Brand.MASTERCARD),
        ("American Express", Brand.AMEX),
        ("AMEX", Brand.AMEX),
        ("Diners Club", Brand.DINERS),
        ("Discover", Brand.DISCOVER),
        ("JCB", Brand.JCB),
        ("UnionPay", Brand.UNIONPAY),
        ("China UnionPay", Brand.UNIONPAY),
        ("Maestro", Brand.MAESTRO),
        ("Verve", Brand.VERVE),
        ("Meeza", Brand.MEEZA),
        ("mada", Brand.MADA),
        ("eftpos", Brand.EFTPOS_AU),
        ("RuPay", Brand.RUPAY),
        ("Elo", Brand.ELO),
        ("TROY", Brand.TROY),
        ("unheard-of", Brand.UNKNOWN),
        ("***", Brand.UNKNOWN),
    ],
)
def test_a_brand_is_known_by_its_letters(word: str, brand: Brand) -> None:
    assert fields.brand(word) is brand


def test_every_brand_of_the_contract_is_found_under_its_own_name() -> None:
    for brand in Brand:
        assert fields.brand(brand.value) is brand


@pytest.mark.parametrize("funding", [*Funding])
def test_every_funding_of_the_contract_is_found_under_its_own_name(funding: Funding) -> None:
    assert fields.funding(funding.value.upper()) is funding


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("AU", "AU"),
        ("au", "AU"),
        ("AUS", "AU"),
        ("036", "AU"),
        ("Australia", "AU"),
        ("New Zealand", "NZ"),
        ("UK", None),  # reserved, but not a country's code
        ("Atlantis", None),
        ("", None),
        ("A" * 65, None),
        (["AU"], None),
    ],
)
def test_a_country_is_its_two_letters(value: object, expected: str | None) -> None:
    assert fields.country(value) == expected


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none()))
@settings(max_examples=50, deadline=None)
def test_every_json_object_is_read_back(content: dict[str, object]) -> None:
    assert fields.json_object(json.dumps(content).encode()) == content
