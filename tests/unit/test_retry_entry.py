"""The queue entry of a retry is read by this release, and has the form in which Celery's own retry wrote it before."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from tasks.broker.delivery import Delivery
from tasks.broker.retry_entry import retry_entry
from tasks.lookups.carried_state import LookupState, RetryState
from tests.unit.messages import CANARY, GOOD, opened
from tests.unit.test_delivery import DELIVERIES

NOW = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
DUE = NOW + timedelta(seconds=5.25)
DELIVERY = Delivery(
    task="lookup.opay",
    task_id="6a1b",
    claim_id="claim-1",
    queue="lookup.opay.bulk",
    priority=5,
    retries=2,
    redelivered=False,
    deaths=0,
    seen=NOW,
)
STATE = RetryState(
    lookups=[LookupState(index=3, lookup_id="a", attempts=2, requested_at=NOW, deadline=DUE, not_before=DUE)]
)


def by_celery() -> dict[str, Any]:
    """The entry as a worker of the release before puts it: made by Celery and kombu, with a header of that release."""
    app = Celery(broker="memory://", set_as_current=False)
    kwargs = {"requests": [GOOD], "retry": STATE.model_dump(mode="json")}
    sent: dict[str, Any] = {}
    with app.connection_for_write() as connection:
        channel: Any = connection.channel()
        channel._put = lambda _queue, message, **_: sent.update(message)
        producer = app.amqp.Producer(channel, auto_declare=False)
        written = app.amqp.as_task_v2(
            "6a1b", "lookup.opay", (), kwargs, eta=DUE, retries=3, ignore_result=True, root_id="6a1b"
        )
        headers = {**written.headers, "lookup_deferral": "d1"}
        producer.publish(
            written.body,
            routing_key="lookup.opay.bulk",
            headers=headers,
            serializer="json",
            priority=5,
            **written.properties,
        )
    return sent


@given(
    delivery=DELIVERIES.filter(lambda each: each.task_id.isprintable()),
    requests=st.lists(st.just(GOOD) | st.text() | st.just("\ud800") | st.none(), min_size=1, max_size=3),
)
def test_a_retry_is_read_as_it_was_written(delivery: Delivery, requests: list[object]) -> None:
    steps = [STATE.lookups[0].model_copy(update={"index": index}) for index in range(len(requests))]
    state = RetryState(lookups=steps)
    envelope = opened(retry_entry(delivery, requests, state, DUE), deferred=True)
    assert (envelope.task, envelope.id, envelope.requests) == (delivery.task, delivery.task_id, requests)
    assert RetryState.model_validate(envelope.retry) == state
    assert (envelope.retries, envelope.eta, envelope.expires) == (min(delivery.retries + 1, 2**31 - 1), DUE, None)
    assert envelope.priority == delivery.priority


def test_a_retry_has_the_form_that_celery_s_own_has() -> None:
    ours = json.loads(retry_entry(DELIVERY, [GOOD], STATE, DUE))
    theirs = by_celery()
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(base64.b64decode(theirs["body"]))
    assert ours.keys() == theirs.keys()
    assert ours["headers"].keys() == theirs["headers"].keys() - {"lookup_deferral"}
    assert ours["properties"].keys() == theirs["properties"].keys()
    own = {"kwargsrepr", "argsrepr", "origin", "reply_to", "delivery_tag", "lookup_deferral"}
    for part in ("headers", "properties"):
        assert {k: v for k, v in ours[part].items() if k not in own} == {
            k: v for k, v in theirs[part].items() if k not in own
        }


def test_a_retry_of_the_release_before_is_read_like_one_of_this() -> None:
    assert opened(by_celery(), deferred=True) == opened(retry_entry(DELIVERY, [GOOD], STATE, DUE), deferred=True)


@pytest.mark.parametrize("place", ["headers", "properties"])
def test_a_retry_shows_nothing_of_what_is_asked_for_beside_its_body(place: str) -> None:
    entry = json.loads(retry_entry(DELIVERY, [GOOD], STATE, DUE))
    assert CANARY not in json.dumps(entry[place])
