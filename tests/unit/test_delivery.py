"""What a worker knows of a delivery crosses Celery unchanged."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.worker import state
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport.virtual import Message

from cardtoken.contract import Lane
from tasks.broker.delivery import Delivery
from tasks.broker.intake import canonical
from tasks.broker.request import MaskedRequest
from tasks.task import register
from tests.unit.messages import claim_of, message, opened

TEXT = st.text(min_size=1, max_size=40)
COUNT = st.integers(0, (1 << 31) - 1)
TIME = st.datetimes(timezones=st.just(UTC))
DELIVERIES = st.builds(
    Delivery,
    task=st.sampled_from(["lookup.opay", "lookup.afterpay"]),
    task_id=TEXT,
    claim_id=TEXT,
    queue=st.sampled_from(["lookup.opay.bulk", "lookup.opay.interactive"]) | TEXT,
    priority=st.integers(0, 255),
    retries=COUNT,
    redelivered=st.booleans(),
    deaths=COUNT,
    seen=TIME,
    early=st.timedeltas(timedelta(), timedelta(days=365)),
    expires=st.none() | TIME,
    replay_of=st.none() | TEXT,
    revoked=st.booleans(),
)


@given(delivery=DELIVERIES)
def test_a_delivery_reads_what_it_wrote_from_a_task_s_request(delivery: Delivery) -> None:
    headers = json.loads(json.dumps(delivery.to_headers()))
    assert Delivery.from_request(Context(headers)) == delivery


@pytest.mark.parametrize("revoked", [False, True])
def test_a_delivery_crosses_celery_as_the_intake_made_it(revoked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "revoked", {"6a1b"} if revoked else set())
    now = datetime.now(UTC)
    entry = message(
        headers={**message()["headers"], "retries": 3, "lookup_replay_of": "before", "expires": now.isoformat()}
    )
    raw = json.dumps(entry).encode()
    payload: Any = canonical(opened(raw), claim_of(raw), now)
    app = Celery(set_as_current=False)
    register(app, "opay", lambda: pytest.fail("no task runs here"))
    with Connection("memory://") as connection:
        channel: Any = connection.channel()
        request: Any = MaskedRequest(Message(payload, channel=channel), app=app)
    assert request.revoked() is False
    assert Delivery.from_request(Context(request.request_dict)) == Delivery(
        task="lookup.opay",
        task_id="6a1b",
        claim_id="claim-1",
        queue="lookup.opay.bulk",
        priority=0,
        retries=3,
        redelivered=True,
        deaths=0,
        seen=now,
        expires=now,
        replay_of="before",
        revoked=revoked,
    )


@pytest.mark.parametrize(
    ("queue", "lane"),
    [
        ("lookup.opay.interactive", Lane.INTERACTIVE),
        ("lookup.opay.bulk", Lane.BULK),
        ("another-service's", Lane.BULK),
        ("interactive", Lane.BULK),
        ("", Lane.BULK),
    ],
)
def test_a_delivery_has_its_queue_s_lane(queue: str, lane: Lane) -> None:
    delivery = Delivery(
        task="lookup.opay",
        task_id="t",
        claim_id="c",
        queue=queue,
        priority=0,
        retries=0,
        redelivered=False,
        deaths=0,
        seen=datetime.now(UTC),
    )
    assert (delivery.provider, delivery.lane) == ("opay", lane)
