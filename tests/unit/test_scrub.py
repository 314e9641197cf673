"""A provider's words, made fit to be published and logged."""

from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardtoken.secret import CardToken, Secret
from tasks.providers.scrub import MAX_CODE, scrubbed

SECRET = Secret("OPAYPRV16160617080050.388604510744898")
TOKEN = CardToken("OPAY_TOKEN_bf8593c1/6935=46ea")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("all is well", "all is well"),
        (f"key {SECRET.get_secret_value()}!", "key ***!"),
        (f"{TOKEN.get_secret_value()}{TOKEN.get_secret_value()}", "******"),  # however often
        ("OPAY_TOKEN_bf8593c1%2F6935%3D46ea", "***"),  # as it stands in a URL
        ("OPAY_TOKEN_bf8593c1/6935%3D46ea", "***"),  # in a path
        ("OPAY_TOKEN_bf8593c1%2f6935%3d46ea", "***"),  # with small letters
        ("card 4111111111111111.", "card ***."),
        ("card 4111 1111 1111 1111", "card ***"),  # as people write it
        ("card 4111-1111-1111-1111", "card ***"),
        ("amex 378282246310005", "amex ***"),  # 15 digits
        ("maestro 630490017740292441", "maestro ***"),  # 18 digits
        ("old 411111111111", "old ***"),  # 12 digits
        ("order 16372255 of 2021-11-25", "order 16372255 of 2021-11-25"),  # what is too short stays
        ("mail jo.bloggs+x@example.co.uk now", "mail *** now"),
        ("<jo@example.com>,<ann@example.org>", "<***>,<***>"),
        ("at 5 @ home", "at 5 @ home"),  # no address
        ("two\r\nlines\tand\x00more", "two lines and more"),
        ("next\x85line\u2028separated\u2029so", "next line separated so"),  # what else ends a line
        ("escape \x1b[31m \x9b31m", "escape  [31m  31m"),  # nothing for a terminal to obey
        ("\n", None),  # nothing left
        ("", None),
        (None, None),
    ],
)
def test_a_message_loses_what_it_must_not_say(message: str | None, expected: str | None) -> None:
    assert scrubbed(message, (SECRET, TOKEN)) == expected


@pytest.mark.parametrize(
    "spelt", ['a b\\"ü', 'a b\\\\\\"ü', "a+b%5C%22%C3%BC", "a%20b%5c%22%c3%bc", 'a b\\\\\\"\\u00fc']
)
def test_a_secret_is_found_as_forms_urls_and_json_spell_it(spelt: str) -> None:
    assert scrubbed(f"no <{spelt}>", (Secret('a b\\"ü'),)) == "no <***>"


@pytest.mark.parametrize("secrets", [(), (None,), (Secret(""), CardToken(""))])
def test_secrets_that_there_are_not_change_nothing(secrets: tuple[Secret | CardToken | None, ...]) -> None:
    assert scrubbed("all is well", secrets) == "all is well"


@pytest.mark.parametrize(
    ("length", "limit", "kept"),
    [(500, 500, 500), (501, 500, 500), (100_000, 500, 500), (64, MAX_CODE, 64), (65, MAX_CODE, 64)],
)
def test_a_long_message_is_cut_and_shows_that_it_was(length: int, limit: int, kept: int) -> None:
    message = scrubbed("m" * length, (), limit)
    assert message is not None
    assert len(message) == kept
    assert message.endswith("…") is (length > limit)


@pytest.mark.parametrize("start", range(470, 501, 3))
def test_a_secret_across_the_cut_leaves_no_part_of_itself(start: int) -> None:
    message = scrubbed("." * start + SECRET.get_secret_value(), (SECRET,))
    assert message is not None
    assert "OPAY" not in message
    assert set(message) <= {".", "*", "…"}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", ["x", "1", "1 ", "@", "a@", "\n", "a.b-"])
def test_a_message_of_a_megabyte_is_read_in_no_time(piece: str) -> None:
    started = perf_counter()
    assert len(scrubbed(piece * (1_000_000 // len(piece)), (SECRET, TOKEN)) or "") <= 500
    assert perf_counter() - started < 5


@given(
    st.text(),
    st.text(),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789/ü", min_size=16, max_size=40),
    st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_a_secret_is_not_published_in_any_surroundings(before: str, after: str, secret: str, times: int) -> None:
    message = scrubbed(before + secret * times + after, (Secret(secret),))
    assert message is None or (secret not in message and len(message) <= 500 and len(message.splitlines()) == 1)
