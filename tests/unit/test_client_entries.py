"""The answers that servers and protocols differ in."""

from cardtoken.stream_entries import claimed, of_one_stream

FIELDS = [b"result", b"{}"]
ENTRY = [b"1-1", FIELDS]


def test_entries_are_read_in_the_form_of_either_protocol() -> None:
    expected = [("1-1", {b"result": b"{}"}), ("1-2", None)]
    assert of_one_stream([[b"stream", [ENTRY, [b"1-2", None]]]]) == expected
    assert of_one_stream({b"stream": [ENTRY, [b"1-2", None]]}) == expected
    assert of_one_stream(None) == of_one_stream([]) == of_one_stream([[b"stream", []]]) == []


def test_redis_6_2_claims_in_two_parts_with_gaps() -> None:
    assert claimed([b"0-0", [ENTRY, None]]) == ("0-0", [("1-1", {b"result": b"{}"})], True)


def test_later_ones_claim_in_three_parts() -> None:
    assert claimed([b"1-2", [ENTRY], [b"1-0"]]) == ("1-2", [("1-1", {b"result": b"{}"})], False)
