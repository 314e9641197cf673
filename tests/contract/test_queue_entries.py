"""The contract's table of what becomes of malformed input, one queue entry at a time; and what any client may push."""

import json
import time
import uuid
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, signature

from sandbox.messages import encoded, raw, with_headers, with_properties
from sandbox.messages import plain as entry
from sandbox.service import Service
from sandbox.waiting import until

QUEUE = "lookup.opay.interactive"
GOOD = {"opay_token": "OPAY_TOKEN_visa"}


ONE = {"requests": [GOOD]}
LINK = {"task": "lookup.opay", "args": [], "kwargs": {}, "options": {}}
ENTRIES: list[tuple[str, bytes]] = [
    ("not JSON", b"lookup me up"),
    ("empty", b""),
    ("not UTF-8", b'{"body": "\xff\xfe"}'),
    ("JSON, but no object", b"[1, 2, 3]"),
    ("an object, but no message", b'{"hello": "world"}'),
    ("larger than MAX_MESSAGE_BYTES", raw(entry({"requests": [{"opay_token": "x" * (4 << 20)}]}))),
    ("an unknown task", raw(entry(ONE, task="lookup.visa"))),
    ("no task", raw(entry(ONE, task=""))),
    ("Celery's own task celery.ping", raw(entry({}, task="celery.ping"))),
    ("Celery's own task celery.map", raw(entry({"task": LINK, "it": [1]}, task="celery.map"))),
    ("no id", raw(with_headers(entry(ONE), id=None))),
    ("an id that is a number", raw(with_headers(entry(ONE), id=5))),
    ("a link", raw(entry(ONE, embed={"callbacks": [LINK]}))),
    ("a link for errors", raw(entry(ONE, embed={"errbacks": [LINK]}))),
    ("a chain", raw(entry(ONE, embed={"chain": [LINK]}))),
    ("a chord", raw(entry(ONE, embed={"chord": LINK}))),
    ("positional arguments", raw(entry(ONE, args=[[GOOD]]))),
    ("requests as a positional argument", raw(entry({}, args=[[GOOD]]))),
    ("no kwargs", raw(entry({}))),
    ("kwargs that are a list", raw(entry([GOOD]))),
    ("another kwarg", raw(entry({"requests": [GOOD], "priority": 1}))),
    ("the kwarg that this service adds to its own retries", raw(entry({"requests": [GOOD], "retry": {}}))),
    ("requests that are an object", raw(entry({"requests": GOOD}))),
    ("requests that are null", raw(entry({"requests": None}))),
    ("no request", raw(entry({"requests": []}))),
    ("501 requests", raw(entry({"requests": [GOOD] * 501}))),
    ("pickle", raw(entry(ONE, **{"content-type": "application/x-python-serialize"}))),
    ("YAML", raw(entry(ONE, **{"content-type": "application/x-yaml"}))),
    ("a body that is not base64", raw(entry(ONE, body="%%%"))),
    ("a body that is not JSON", raw(entry(ONE, body=encoded(b"{")))),
    ("a body of two parts", raw(entry(ONE, body=encoded(b"[[], {}]")))),
    ("a body nested 100,000 deep", raw(entry(ONE, body=encoded(b"[" * 100_000)))),
    (
        "a body that unpacks to 50 MB",
        raw(
            with_headers(
                entry(ONE, body=encoded(zlib.compress(b" " * 50_000_000))),
                compression="application/x-gzip",
            )
        ),
    ),
    ("an expires that is no time", raw(with_headers(entry(ONE), expires="soon"))),
    ("an eta that is no time", raw(with_headers(entry(ONE), eta=[1]))),
]


@pytest.mark.parametrize("pushed", [data for _, data in ENTRIES], ids=[name for name, _ in ENTRIES])
def test_a_malformed_entry_goes_to_quarantine_byte_for_byte(service: Service, pushed: bytes) -> None:
    service.redis.lpush(QUEUE, pushed)
    kept = service.quarantined(pushed)
    assert kept["queue"] == QUEUE
    assert kept["reason"]
    assert abs(datetime.fromisoformat(kept["quarantined_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    # The worker goes on.
    assert service.results(service.send("opay", [GOOD]), 1)[0]["status"] == "found"


def test_canvases_of_a_celery_producer_are_not_taken(service: Service) -> None:
    before = service.redis.xlen("lookup:quarantine")
    lookup = signature("lookup.opay", kwargs={"requests": [GOOD]}, app=service.producer).set(
        queue=QUEUE, immutable=True
    )
    chain(lookup, lookup).apply_async()
    lookup.apply_async(link=lookup)

    def two() -> bool | None:
        return True if service.redis.xlen("lookup:quarantine") - before == 2 else None

    assert until(two)


def test_five_hundred_requests_are_taken(service: Service) -> None:
    requests = [{"opay_token": f"OPAY_TOKEN_{i:032x}"} for i in range(500)]
    results = service.results(service.send("opay", requests), 500)
    assert {result["status"] for result in results} == {"found"}
    assert len({result["lookup_id"] for result in results}) == 500


PUSHES: list[tuple[str, dict[str, Any]]] = [
    ("protocol 2 with nothing but what it needs", entry(ONE)),
    ("args that are null", entry(ONE, args=None)),
    ("no delivery_info at all", entry(ONE, properties={"body_encoding": "base64"})),
    (
        "another queue in its delivery_info",
        entry(
            ONE,
            properties={
                "body_encoding": "base64",
                "delivery_info": {"exchange": "e", "routing_key": "lookup.afterpay.bulk"},
            },
        ),
    ),
    ("a body that is plain text", entry(ONE, body=json.dumps([[], ONE, {}]), properties={})),
    ("an empty headers.retries", with_headers(entry(ONE), retries=None, eta=None, expires=None)),
    (
        "a compressed body",
        with_headers(
            entry(ONE, body=encoded(zlib.compress(json.dumps([[], ONE, {}]).encode()))),
            compression="application/x-gzip",
        ),
    ),
]


@pytest.mark.parametrize("message", [message for _, message in PUSHES], ids=[name for name, _ in PUSHES])
def test_every_form_that_a_client_may_push_is_taken(service: Service, message: dict[str, Any]) -> None:
    task_id = str(uuid.uuid4())
    service.redis.lpush(QUEUE, raw(with_headers(message, id=task_id)))
    [result] = service.results(task_id, 1)
    assert (result["status"], result["lookup_id"]) == ("found", f"{task_id}:0")


def test_protocol_1_is_taken(service: Service) -> None:
    task_id = str(uuid.uuid4())
    body = {"task": "lookup.opay", "id": task_id, "args": [], "kwargs": ONE, "retries": 0, "eta": None, "utc": True}
    message = entry(ONE, body=encoded(body), headers={})
    service.redis.lpush(QUEUE, raw(message))
    assert service.results(task_id, 1)[0]["status"] == "found"


def test_a_repeated_delivery_tag_does_no_harm(service: Service) -> None:
    ids = [str(uuid.uuid4()) for _ in range(20)]
    service.redis.lpush(
        QUEUE, *[raw(with_properties(entry(ONE, task_id=task_id), delivery_tag="x")) for task_id in ids]
    )
    assert [service.results(task_id, 1)[0]["status"] for task_id in ids] == ["found"] * 20


@pytest.mark.parametrize("priority", [0, 3, 6, 9])
def test_a_message_with_a_celery_priority_is_taken(service: Service, priority: int) -> None:
    assert service.results(service.send("opay", [GOOD], priority=priority), 1)[0]["status"] == "found"


def test_a_task_id_of_another_shape_is_taken(service: Service) -> None:
    task_id = f"order 42/{uuid.uuid4()}·ü"
    [result] = service.results(service.send("opay", [GOOD], task_id=task_id), 1)
    assert (result["task_id"], result["lookup_id"]) == (task_id, f"{task_id}:0")


def test_a_countdown_is_honoured(service: Service) -> None:
    begun = time.time()
    task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa~countdown"}], countdown=1)
    service.results(task_id, 1)
    [call] = service.simulator.stats("OPAY_TOKEN_visa~countdown")["by_reference"]["OPAY_TOKEN_visa~countdown"]["at"]
    assert call - begun >= 0.99


def test_a_second_delivery_of_a_message_gives_no_second_result(service: Service) -> None:
    message = raw(entry(ONE, task_id=str(uuid.uuid4())))
    task_id = json.loads(message)["headers"]["id"]
    service.redis.lpush(QUEUE, message, message, message)
    service.results(task_id, 1)
    # Behind them in the queue, so when this is answered, they have been taken too.
    while service.redis.llen(QUEUE) or service.redis.hlen("unacked"):
        time.sleep(0.01)
    assert len(service.results(task_id, 1)) == 1


def test_the_same_lookup_in_a_new_message_is_asked_anew(service: Service) -> None:
    request = {**GOOD, "lookup_id": "again"}
    for _ in range(2):
        assert service.results(service.send("opay", [request]), 1)[0]["lookup_id"] == "again"
