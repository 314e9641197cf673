"""The configured secrets, in every form, are cut out of text."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.telemetry.redaction import MASK, Redactor

SECRET = 'pr1v"te/k+y-äöü=='


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        SECRET.encode().hex(),
    ],
)
def test_a_secret_is_cut_out_in_each_of_its_forms(form: str) -> None:
    assert Redactor([SECRET]).text(f"before {form} after") == f"before {MASK} after"


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_in_base64_it_is_found_wherever_it_stands(before: bytes, after: bytes) -> None:
    secret = "merchantABC-of-some-length"
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    assert MASK in Redactor([secret]).text(encoded)


def test_of_a_url_only_the_password_is_one() -> None:
    redactor = Redactor(
        ["redis://worker:hunter2-hunter2@redis.internal:6379/0", "https://0123456789abcdef@sentry.io/1"]
    )
    assert redactor.text("Connected to redis.internal:6379") == "Connected to redis.internal:6379"
    assert redactor.text("hunter2-hunter2 0123456789abcdef") == f"{MASK} {MASK}"
    sentinels = Redactor(["sentinel://:first-password@a:1;sentinel://b:2/0"])
    assert sentinels.text("first-password at a:1") == f"{MASK} at a:1"


def test_a_secret_too_short_to_tell_from_a_word_is_not_masked() -> None:
    assert Redactor(["a", ""]).text("a cat") == "a cat"


def test_the_longer_of_two_goes_first() -> None:
    assert Redactor(["secret-one", "secret-one-and-more"]).text("secret-one-and-more") == MASK


def test_values_are_gone_through() -> None:
    found = Redactor(["hunter2-hunter2"]).whole({"hunter2-hunter2": ["x hunter2-hunter2", 5, None, b"raw"]})
    assert found == {MASK: [f"x {MASK}", 5, None, MASK]}


def test_secrets_that_are_replaced_stay_masked_beside_the_new_ones() -> None:
    redactor = Redactor(["first-secret"])
    redactor.replace(["second-secret", "another-secret"])
    redactor.replace(["third-secret", "another-secret"])
    text = "first-secret second-secret third-secret another-secret"
    assert redactor.text(text) == " ".join([MASK] * 4)
    for number in range(200):
        redactor.replace([f"secret-number-{number}"])
    assert redactor.text("secret-number-199 secret-number-150 first-secret") == f"{MASK} {MASK} first-secret"
