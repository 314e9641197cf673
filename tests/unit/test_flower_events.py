"""What may be published to the channel of events, and which of it Flower keeps."""

import json
import time
from typing import Any

import pytest
from celery.events import Event
from celery.events.state import State

from config.flower_events import is_of_events
from sandbox.messages import changed, raw, with_properties, wrapped

GOOD = Event("worker-heartbeat", hostname="w@h", freq=2.0, active=0, processed=1, loadavg=(1.0, 0.5, 0.1), pid=5,
             clock=7, utcoffset=0, sw_ident="py-celery", sw_ver="5.7.0", sw_sys="Linux")  # fmt: skip
TASK = Event("task-received", hostname="w@h", uuid="u-1", name="lookup.opay", args="()", kwargs="1 lookup", retries=0,
             eta=None, expires=None, root_id="u-1", parent_id=None, clock=8, utcoffset=-1, pid=5)  # fmt: skip


def published(event: object, **entry: object) -> bytes:
    message = with_properties(wrapped(json.dumps(event), {}), delivery_info={"routing_key": "worker.x"})
    return raw(changed(message, **entry))


@pytest.mark.parametrize(
    "event",
    [GOOD, TASK, [TASK, GOOD], [], {**TASK, "new_field": "text"}],
    # Without their times, which no two processes of a test run have in common.
    ids=["heartbeat", "received", "both", "none", "a field of a release to come"],
)
def test_events_as_workers_send_them_are_kept(event: object) -> None:
    assert is_of_events(published(event))


ODD = [
    ("freq", "x"), ("freq", None), ("freq", -1), ("freq", 1e300), ("clock", "x"), ("clock", -5), ("clock", 10**30),
    ("timestamp", "now"), ("timestamp", None), ("timestamp", float("nan")), ("utcoffset", "x"), ("pid", []),
    ("hostname", None), ("hostname", 5), ("hostname", ["w"]), ("hostname", ""), ("hostname", "h" * 300),
    ("type", None), ("type", 5), ("type", "worker"), ("type", "other-x"), ("loadavg", "x"), ("loadavg", [None]),
    ("active", {"a": 1}), ("heartbeats", 5), ("event", "x"), ("alive", True), ("__class__", "x"), ("sw_ver", 5),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), ODD, ids=str)
def test_an_event_that_could_not_be_shown_is_ignored(field: str, value: object) -> None:
    assert not is_of_events(published({**GOOD, field: value}))
    assert not is_of_events(published([GOOD, {**TASK, field: value}]))


@pytest.mark.parametrize("field", ["hostname", "type", "timestamp"])
def test_an_event_that_lacks_what_each_has_is_ignored(field: str) -> None:
    assert not is_of_events(published({name: value for name, value in GOOD.items() if name != field}))


@pytest.mark.parametrize(
    "raw",
    [
        *(b"[]", b"null", b"5", b"{}", b"{", b"\xff", b"[" * 50_000, b'"x"', None, 5, b""),
        published(5), published(None), published("x"), published([5]), published(GOOD, properties=[]),
        published(GOOD, body=5), published(GOOD, body="%%%"), published(GOOD, headers={"compression": "x"}),
        published(GOOD, properties={"body_encoding": "base64"}), published(GOOD, **{"content-type": "x"}),
        published(GOOD, properties={"delivery_tag": 1, "delivery_info": 5, "body_encoding": "base64"}),
    ],
    ids=lambda raw: repr(raw)[:40],
)  # fmt: skip
def test_a_message_that_is_not_an_event_is_ignored(raw: object) -> None:
    assert not is_of_events(raw)


def test_celerys_state_takes_what_passes() -> None:
    state: Any = State()
    now = time.time()  # that of the module is old where many tests came before
    for event in (GOOD, TASK):
        state.event({**event, "timestamp": now, "local_received": now})
    assert state.workers["w@h"].alive
    assert state.tasks["u-1"].name == "lookup.opay"
