"""A queue entry that is a message, of any client and in any packing."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from kombu.compression import compress

from sandbox.messages import EMBED
from tasks.broker.envelope import MalformedError
from tests.unit.messages import CANARY, GOOD, body, message, opened, protocol_1, with_headers, with_properties

STEP = {
    "index": 3,
    "lookup_id": "order-1",
    "attempts": 1,
    "requested_at": "2026-01-31T12:00:00Z",
    "deadline": "2026-01-31T13:00:00Z",
}
STATE = {"version": 1, "lookups": [STEP]}


@pytest.mark.parametrize(
    "entry",
    [
        message(),  # as Celery pushes it
        message(body(embed={})),
        message(body(embed=None)),  # with less beside it
        message(body(args=None)),
        message(**{"content-encoding": ...}),  # a client in another language that says only what it must
        message(**{"content-encoding": "UTF-8"}),
        message(body=body(), properties={}),  # a body as plain text
        message(body=body(), properties=...),
        with_properties(delivery_tag=..., delivery_info=5),  # with any delivery facts
        protocol_1(),
        protocol_1(args=..., callbacks=..., errbacks=..., chord=..., utc=...),
        protocol_1(args=None),
    ],
)
def test_a_message_of_any_client_is_taken(entry: dict[str, Any]) -> None:
    envelope = opened(entry)
    assert (envelope.task, envelope.id) == ("lookup.opay", "6a1b")
    assert envelope.requests == [GOOD]
    assert (envelope.retry, envelope.retries, envelope.eta, envelope.expires) == (None, 0, None, None)


def test_an_envelope_does_not_show_what_is_asked_for() -> None:
    retried = opened(with_headers(body({"requests": [GOOD], "retry": STATE}), retries=1), deferred=True)
    assert CANARY not in f"{retried} {retried!r}"
    assert "order-1" not in repr(retried)


@pytest.mark.parametrize("count", [1, 100, 500])
def test_a_list_holds_1_to_500(count: int) -> None:
    assert len(opened(message(body({"requests": [GOOD] * count}))).requests) == count


@pytest.mark.parametrize("element", [None, 5, "x", [], {}, [[[{}]]], {"opay_token": 10**400}, {"a": "\ud800"}])
def test_a_bad_element_is_no_reason_to_refuse_the_message(element: object) -> None:
    assert opened(message(body({"requests": [GOOD, element]}))).requests == [GOOD, element]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/json ", "Application/JSON"])
def test_json_by_any_way_of_writing_its_name_is_taken(content_type: str) -> None:
    assert opened(message(**{"content-type": content_type})).requests == [GOOD]


@pytest.mark.parametrize("task", ["lookup.opay", "lookup.afterpay"])
def test_the_task_decides_the_provider_and_not_the_queue(task: str) -> None:
    assert opened(with_headers(task=task)).task == task
    assert opened(protocol_1(task=task)).task == task


@pytest.mark.parametrize("task_id", ["x", "6a1b-ünïcödé ✓", "x" * 255, "<script>", "a b"])
def test_an_id_is_any_text_that_can_be_printed(task_id: str) -> None:
    assert opened(with_headers(id=task_id)).id == task_id


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2026-01-31T12:00:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.250000Z", datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-01-31T13:00:00+01:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),  # Celery's own times are UTC
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        (None, None),
    ],
)
def test_eta_and_expires_are_times_in_utc(written: str | None, time: datetime | None) -> None:
    for entry in (with_headers(eta=written, expires=written), protocol_1(eta=written, expires=written)):
        assert (opened(entry).eta, opened(entry).expires) == (time, time)


def test_an_eta_may_be_as_far_ahead_as_times_go() -> None:
    far = opened(with_headers(eta="9999-12-31T23:59:59Z", expires="9999-12-31T23:59:59Z"))
    assert far.eta == far.expires == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "priority"), [(0, 0), (9, 9), (255, 255), (256, 0), (-1, 0), (None, 0), ("9", 0), (True, 0), ({}, 0)]
)
def test_a_priority_that_is_none_counts_as_0(written: object, priority: int) -> None:
    assert opened(with_properties(priority=written)).priority == priority


@pytest.mark.parametrize(
    ("written", "read"), [("6a1b", "6a1b"), (None, None), ("", None), (5, None), ("x" * 256, None)]
)
def test_a_message_may_say_which_task_it_replays(written: object, read: str | None) -> None:
    assert opened(with_headers(lookup_replay_of=written)).replay_of == read


# --- retries


@pytest.mark.parametrize("wrap", [with_headers, None], ids=["protocol 2", "protocol 1"])
def test_a_retry_of_this_service_carries_its_state(wrap: Callable[..., dict[str, Any]] | None) -> None:
    kwargs = {"requests": [GOOD], "retry": STATE}
    entry = wrap(body(kwargs), retries=2) if wrap else protocol_1(kwargs=kwargs, retries=2)
    envelope = opened(entry, deferred=True)
    assert (envelope.retry, envelope.retries) == (STATE, 2)


def test_the_state_of_a_later_release_is_taken_as_it_is() -> None:
    later = {**STATE, "version": 2, "more": {"a": [1]}}
    assert opened(with_headers(body({"requests": [GOOD], "retry": later}), retries=1), deferred=True).retry == later


def test_a_retry_may_come_without_a_state() -> None:
    assert opened(with_headers(retries=1)).retry is None
    assert opened(with_headers(body({"requests": [GOOD], "retry": None}), retries=1), deferred=True).retry is None


def test_a_producer_has_no_business_with_the_state_of_a_retry() -> None:
    for retry in (STATE, None):
        with pytest.raises(MalformedError, match="exactly requests"):
            opened(with_headers(body({"requests": [GOOD], "retry": retry}), retries=1))


@pytest.mark.parametrize(
    "retry",
    [
        {},
        [],
        "",
        0,
        "state",
        {"lookups": "x"},
        {"version": 0, "lookups": [STEP]},
        {"version": 1, "lookups": []},  # none, for one request
        {"version": 1, "lookups": [STEP, {**STEP, "index": 4}]},  # two, for one
    ],
)
def test_a_state_that_does_not_fit_is_refused(retry: object) -> None:
    with pytest.raises(MalformedError, match="state of a retry"):
        opened(with_headers(body({"requests": [GOOD], "retry": retry}), retries=1), deferred=True)


# --- packed


COMPRESSED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("application/x-gzip", zlib.compress),
    ("application/x-bz2", bz2.compress),
    ("application/x-lzma", lzma.compress),
    ("application/x-xz", lzma.compress),
]
each_compression = pytest.mark.parametrize(("kind", "pack"), COMPRESSED, ids=[kind for kind, _ in COMPRESSED])


@each_compression
def test_a_compressed_body_is_taken(kind: str, pack: Callable[[bytes], bytes]) -> None:
    assert opened(with_headers(pack(body().encode()), compression=kind)).requests == [GOOD]


@pytest.mark.parametrize("name", ["zlib", "gzip", "bzip2", "lzma"])
def test_a_body_compressed_by_kombu_is_taken(name: str) -> None:
    data, kind = compress(body(), name)
    assert opened(with_headers(data, compression=kind)).requests == [GOOD]


@pytest.mark.timeout(20)
@each_compression
def test_a_body_that_swells_beyond_the_limit_is_refused_before_it_has(
    kind: str, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(b" " * (16 << 20))
    assert len(bomb) < 100_000
    with pytest.raises(MalformedError, match="decompressed"):
        opened(with_headers(bomb, compression=kind))


@each_compression
def test_a_body_is_taken_up_to_exactly_the_limit(kind: str, pack: Callable[[bytes], bytes]) -> None:
    limit = 10_000
    whole = body() + " " * (limit - len(body()))
    assert opened(with_headers(pack(whole.encode()), compression=kind), limit).requests == [GOOD]
    with pytest.raises(MalformedError, match="decompressed"):
        opened(with_headers(pack(whole.encode() + b" "), compression=kind), limit)


@each_compression
def test_a_body_that_was_cut_off_or_spoilt_is_refused(kind: str, pack: Callable[[bytes], bytes]) -> None:
    data = pack(body().encode())
    for spoilt in (b"", data[:-5], data[:5], b"spoilt", data[:20] + b"\xff\xff\xff" + data[23:]):
        with pytest.raises(MalformedError, match="compress"):
            opened(with_headers(spoilt, compression=kind))


@pytest.mark.parametrize("kind", ["application/zstd", "GZIP", "identity", 5, [1], {"a": 1}, True])
def test_an_unknown_compression_is_refused(kind: object) -> None:
    with pytest.raises(MalformedError, match="compression"):
        opened(with_headers(compression=kind))


def test_an_embed_may_hold_anything_but_another_task() -> None:
    assert opened(message(body(embed={**EMBED, "chord": [], "chain": [], "more": {"a": 1}}))).requests == [GOOD]
