"""Intake in memory: an entry becomes a message, waits until it is due, or goes to quarantine, and is never lost."""

import json
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tasks.broker.claims import Claim
from tasks.broker.delivery import Delivery
from tasks.broker.intake import Intake
from tasks.testing.broker import MemoryClaims, MemoryQuarantine
from tasks.testing.clock import FakeClock
from tests.unit.messages import CANARY, GOOD, LIMIT, TASKS, message, with_headers

QUEUE = "lookup.opay.bulk"


class Door:
    """An intake, and all that stands around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.claims = MemoryClaims()
        self.quarantine = MemoryQuarantine()
        claims: Any = self.claims
        quarantine: Any = self.quarantine
        self.intake = Intake(TASKS, LIMIT, claims, quarantine, [QUEUE], clock=self.clock)

    def claim(self, content: object, **fields: Any) -> Claim:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = {"deaths": 0, "taken": 1, "age": 0.0, "deferred": False, "size": len(data), "entry": data}
        return Claim("claim-1", QUEUE, **{**given, **fields})

    def delivery(self, entry: object, **fields: Any) -> Delivery:
        admitted = self.intake.admit(self.claim(entry, **fields))
        assert admitted is not None
        return Delivery.from_request(admitted["headers"])


@pytest.fixture
def door() -> Door:
    return Door()


def test_a_message_is_admitted_with_what_the_claim_says(door: Door) -> None:
    admitted = door.intake.admit(door.claim(message(), deaths=2, taken=3, age=40.0))
    assert admitted is not None
    assert admitted["body"][1] == {"requests": [GOOD]}
    assert admitted["properties"]["delivery_tag"] == "claim-1"
    assert admitted["properties"]["delivery_info"]["routing_key"] == QUEUE
    delivery = Delivery.from_request(admitted["headers"])
    assert (delivery.claim_id, delivery.queue, delivery.deaths, delivery.redelivered) == ("claim-1", QUEUE, 2, True)
    assert delivery.seen == door.clock.now() - timedelta(seconds=40)
    assert CANARY not in f"{admitted['headers']} {admitted['properties']}"


@pytest.mark.parametrize(("taken", "retries", "redelivered"), [(1, 0, False), (2, 0, True), (1, 1, True)])
def test_a_message_is_redelivered_where_a_worker_had_it_or_its_predecessor(
    door: Door, taken: int, retries: int, redelivered: bool
) -> None:
    assert door.delivery(with_headers(retries=retries), taken=taken).redelivered is redelivered


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b"no JSON", "the entry is not JSON"),
        (message(headers={"task": "celery.ping", "id": "1"}), "a task that is not of this service"),
        (None, "larger than the limit"),
    ],
)
def test_an_entry_that_is_not_a_message_goes_to_quarantine(door: Door, entry: object, reason: str) -> None:
    claim = door.claim(entry or message(), **({} if entry else {"entry": None}))
    assert door.intake.admit(claim) is None
    [(claim_id, said)] = door.quarantine.entries
    assert claim_id == "claim-1"
    assert said == reason
    assert door.claims.forgotten == ["claim-1"]


def test_an_entry_is_not_forgotten_where_the_quarantine_did_not_take_it(door: Door) -> None:
    door.quarantine.errors.append(RedisConnectionError())
    with pytest.raises(RedisConnectionError):
        door.intake.admit(door.claim(b"no JSON"))
    assert door.claims.forgotten == []


def test_a_message_with_an_eta_waits_for_it(door: Door) -> None:
    eta = door.clock.now() + timedelta(minutes=5)
    assert door.intake.admit(door.claim(with_headers(eta=eta.isoformat()))) is None
    assert door.claims.postponed == [("claim-1", eta)]
    door.clock.advance(300)
    assert door.intake.admit(door.claim(with_headers(eta=eta.isoformat()))) is not None


@pytest.mark.parametrize(("ahead", "early"), [(30.0, 30.0), (0.5, 0.0), (-10.0, 0.0)])
def test_a_deferred_message_is_admitted_when_redis_says_so_and_knows_how_early_it_is(
    door: Door, ahead: float, early: float
) -> None:
    eta = door.clock.now() + timedelta(seconds=ahead)
    delivery = door.delivery(with_headers(eta=eta.isoformat()), deferred=True)
    assert delivery.early == timedelta(seconds=early)
    assert door.claims.postponed == []


def test_a_refused_message_goes_to_quarantine_or_back_to_its_queue(door: Door) -> None:
    door.intake.refuse("claim-1")
    assert door.quarantine.entries == [("claim-1", "an unexpected error in this service")]
    assert (door.claims.forgotten, door.claims.released) == (["claim-1"], [])
    door.quarantine.errors.append(RedisConnectionError())
    door.intake.refuse("claim-2")
    assert (door.claims.forgotten, door.claims.released) == (["claim-1"], ["claim-2"])
