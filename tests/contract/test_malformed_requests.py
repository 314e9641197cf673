"""The contract's table of what becomes of malformed input, one element of a message at a time."""

from typing import Any

import pytest

from sandbox.service import Service

GOOD = {"opay_token": "OPAY_TOKEN_visa"}

ELEMENTS: list[tuple[str, Any, str]] = [
    # (what is wrong, the element, a word that the error's message has to say)
    ("a number", 5, "object"),
    ("null", None, "object"),
    ("a string", "OPAY_TOKEN_visa", "object"),
    ("a list", [GOOD], "object"),
    ("an empty object", {}, "opay_token"),
    ("an unknown field", {**GOOD, "amount": 5}, "amount"),
    ("the other provider's field", {"original_request_id": "visa"}, "opay_token"),
    ("an empty token", {"opay_token": ""}, "opay_token"),
    ("a token that is a number", {"opay_token": 5}, "opay_token"),
    ("a token that is null", {"opay_token": None}, "opay_token"),
    ("a token that is too long", {"opay_token": "x" * 5000}, "opay_token"),
    ("a token of half a surrogate pair", {"opay_token": "\ud800"}, "opay_token"),
    ("a lookup_id of another kind", {**GOOD, "lookup_id": 7}, "lookup_id"),
    ("a lookup_id that is null", {**GOOD, "lookup_id": None}, "lookup_id"),
    ("a lookup_id that is empty", {**GOOD, "lookup_id": ""}, "lookup_id"),
    ("a lookup_id of 129", {**GOOD, "lookup_id": "x" * 129}, "lookup_id"),
    ("a lookup_id with a space", {**GOOD, "lookup_id": "a b"}, "lookup_id"),
    ("a lookup_id with a newline at its end", {**GOOD, "lookup_id": "a\n"}, "lookup_id"),
    ("an account that is not there", {**GOOD, "account": "nobody"}, "account"),
    ("an account of another kind", {**GOOD, "account": ["default"]}, "account"),
    ("a reply_to of another kind", {**GOOD, "reply_to": 1}, "reply_to"),
    ("a reply_to of 65", {**GOOD, "reply_to": "x" * 65}, "reply_to"),
    ("a reply_to with a colon", {**GOOD, "reply_to": "a:b"}, "reply_to"),
    ("a requested_at without offset", {**GOOD, "requested_at": "2026-01-01T00:00:00"}, "requested_at"),
    ("a requested_at that is a number", {**GOOD, "requested_at": 1767225600}, "requested_at"),
    ("a deadline that is a date", {**GOOD, "deadline": "2099-01-01"}, "deadline"),
    ("a deadline that is no time", {**GOOD, "deadline": "tomorrow"}, "deadline"),
    ("metadata that is a list", {**GOOD, "metadata": []}, "metadata"),
    ("metadata with a number", {**GOOD, "metadata": {"a": 1}}, "metadata"),
    ("metadata of 17 keys", {**GOOD, "metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ("metadata of 2,049 bytes", {**GOOD, "metadata": {"a": "x" * 2048}}, "metadata"),
    ("metadata of 2,050 bytes in 1,026 characters", {**GOOD, "metadata": {"ab": "é" * 1024}}, "metadata"),
    ("a tagged object that Celery's own JSON would revive", {"__type__": "uuid", "__value__": "no uuid"}, "opay_token"),
]


@pytest.fixture(scope="module")
def answered(service: Service) -> list[dict[str, Any]]:
    """The results of one message that holds every malformed element, and a good one at either end."""
    before = service.simulator.stats("OPAY_TOKEN_visa")["by_reference"].get("OPAY_TOKEN_visa", {"calls": 0})["calls"]
    requests = [GOOD, *(element for _, element, _ in ELEMENTS), GOOD]
    task_id = service.send("opay", requests)
    results = service.results(task_id, len(requests))
    calls = service.simulator.stats("OPAY_TOKEN_visa")["by_reference"]["OPAY_TOKEN_visa"]["calls"]
    assert calls - before == 2, "a malformed element must not be asked for"
    by_id = {result["lookup_id"]: result for result in results}
    return [by_id.get(f"{task_id}:{index}") or {} for index in range(len(requests))]


@pytest.mark.parametrize("index", range(len(ELEMENTS)), ids=[name for name, _, _ in ELEMENTS])
def test_a_malformed_element_fails_alone(answered: list[dict[str, Any]], index: int) -> None:
    _, _, word = ELEMENTS[index]
    result = answered[index + 1]
    error = result["error"]
    assert word in error.pop("message")
    assert error == {"category": "invalid_request", "code": None, "http_status": None, "retryable": False}
    assert (result["status"], result["token"], result["attempts"]) == ("failed", None, 0)
    assert (result["provider"], result["metadata"], result["replay_of"]) == ("opay", result["metadata"], None)


def test_its_neighbours_are_served(answered: list[dict[str, Any]]) -> None:
    assert [answered[0]["status"], answered[-1]["status"]] == ["found", "found"]


def test_a_malformed_element_is_answered_where_and_as_it_asked_if_that_is_valid(service: Service) -> None:
    element = {"opay_token": 5, "lookup_id": "mine", "reply_to": "elsewhere", "metadata": {"k": "v"}, "account": "x"}
    [result] = service.results(service.send("opay", [element]), 1, "elsewhere")
    assert (result["lookup_id"], result["metadata"], result["account"]) == ("mine", {"k": "v"}, "x")


def test_a_malformed_element_is_answered_in_default_if_its_own_place_is_not_valid(service: Service) -> None:
    element = {"opay_token": "OPAY_TOKEN_visa", "lookup_id": "not valid", "reply_to": "not valid", "account": "n o"}
    task_id = service.send("opay", [element])
    [result] = service.results(task_id, 1)
    assert (result["lookup_id"], result["account"]) == (f"{task_id}:0", "default")


def test_malformed_and_expired_lookups_are_no_dead_letters(service: Service, answered: list[dict[str, Any]]) -> None:
    task_id = service.send("opay", [{**GOOD, "deadline": "2020-01-01T00:00:00Z"}])
    [result] = service.results(task_id, 1)
    assert result["error"]["category"] == "expired"
    assert service.entries("lookup:dead-letters") == []


def test_the_same_lookup_id_twice_gets_two_results(service: Service) -> None:
    twice = {**GOOD, "lookup_id": "twin"}
    results = service.results(service.send("opay", [twice, twice]), 2)
    assert [result["lookup_id"] for result in results] == ["twin", "twin"]


@pytest.mark.parametrize(
    "late",
    [
        {"deadline": "2020-01-01T00:00:00Z"},  # its own deadline
        {"requested_at": "2020-01-01T00:00:00Z"},  # asked for so long ago that the lane's deadline is over
    ],
    ids=["deadline", "requested_at"],
)
def test_a_lookup_past_its_deadline_is_answered_without_a_call(service: Service, late: dict[str, str]) -> None:
    reference = f"OPAY_TOKEN_visa~late-{next(iter(late))}"
    [result] = service.results(service.send("opay", [{"opay_token": reference, **late}]), 1)
    assert (result["status"], result["error"]["category"], result["attempts"]) == ("failed", "expired", 0)
    assert result["error"]["retryable"] is True
    assert service.simulator.stats(reference)["by_reference"] == {}


def test_a_message_that_a_producer_let_expire_is_answered_expired(service: Service) -> None:
    task_id = service.send("opay", [GOOD, GOOD], expires=-5)
    results = service.results(task_id, 2)
    assert [result["error"]["category"] for result in results] == ["expired", "expired"]


def test_nothing_malformed_reaches_the_log(service: Service) -> None:
    with service.worker() as worker:
        secret = "OPAY_TOKEN_5d41402abc4b2a76b9719d911017c592"
        elements: list[object] = [
            {secret: secret},
            {"opay_token": secret, "lookup_id": secret + " "},
            {"opay_token": [secret]},
            secret,
        ]
        for _ in range(6):  # either of the two workers may take one
            service.results(service.send("opay", elements), 4)
        assert "lookup.opay" in worker.log
        assert secret[-12:] not in worker.log
