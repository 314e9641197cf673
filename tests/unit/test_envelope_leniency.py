"""What Celery's own worker takes of what is pushed is taken here too: judged by kombu and Celery themselves."""

import base64
import bz2
import json
import lzma
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request
from celery.worker.strategy import proto1_to_proto2  # type: ignore[attr-defined]  # the stubs leave it out
from kombu import Connection
from kombu.transport.virtual import Message

from tasks.broker.envelope import Envelope, MalformedError, open_envelope
from tests.unit.messages import GOOD, LIMIT, TASKS, body, message, protocol_1, with_headers, with_properties

TEXT = body()
BASE64 = base64.b64encode(TEXT.encode()).decode()
LATER = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)


def lines(text: str, width: int = 40, end: str = "\n") -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


TIMES: list[Any] = [
    *(None, "2031-02-03T04:05:06Z", "2031-02-03T04:05:06", "2031-02-03 04:05:06+00:00", "20310203T040506Z"),
    *("2031-02-03T05:05:06.000000+01:00", "2031-02-03T04:05:06,0+00", "2031-02-03T040506Z", "2031", "2031-02"),
    *("soon", 5, 1.5, "1", {"a": 1}),
]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": message(),
    "protocol 1": protocol_1(),
    **{f"{name} {value!r}": with_headers(**{name: value}) for name in ("eta", "expires") for value in TIMES},
    **{f"protocol 1, eta {value!r}": protocol_1(eta=value, expires=value) for value in (
        None, "2031-02-03T04:05:06",
    )},
    "base64 in lines": message(body=lines(BASE64)),
    "base64 in lines of MIME": message(body=lines(BASE64, 76, "\r\n") + "\r\n"),
    "base64 with spaces": message(body=" " + lines(BASE64, 7, " \t")),
    "base64 without padding": message(body=base64.b64encode(body().encode() + b" ").decode().rstrip("=") + ""),
    "base64 with more padding": message(body=BASE64 + "=="),
    "base64 for URLs": message(body=base64.urlsafe_b64encode(TEXT.encode()).decode()),
    "no base64": with_properties(body_encoding=None) | {"body": TEXT},
    "no base64, not said": with_properties(body_encoding=...) | {"body": TEXT},
    "no base64, as UTF-8": with_properties(body_encoding="utf-8") | {"body": TEXT},
    "another encoding of the body": with_properties(body_encoding="hex"),
    **{f"content encoding {value!r}": message(**{"content-encoding": value}) for value in (
        None, "", "UTF-8", "binary", "ascii-8bit", "latin-1", "utf-16", "nonsense", 5,
    )},
    **{f"content type {value!r}": message(**{"content-type": value}) for value in (
        "application/json", "text/plain", None,
    )},
    "no headers of protocol 1": protocol_1() | {"headers": None},
    "headers of protocol 1 are empty": protocol_1() | {"headers": {}},
    "no delivery info": with_properties(delivery_info=None),
    "delivery info is not there": with_properties(delivery_info=...),
    "no priority": with_properties(priority=None),
    "no arguments": message(body(args=None)),
    **{f"compressed as {kind}": with_headers(packed, compression=kind) for kind, packed in (
        ("gzip", zlib.compress(TEXT.encode())), ("zlib", zlib.compress(TEXT.encode())),
        ("lzma", lzma.compress(TEXT.encode())),
        ("application/x-gzip", zlib.compress(TEXT.encode())), ("bzip2", bz2.compress(TEXT.encode())),
        ("xz", lzma.compress(TEXT.encode())), ("", TEXT.encode()), (None, TEXT.encode()), ("rot13", TEXT.encode()),
    )},
}  # fmt: skip

app = Celery("a-worker-of-celerys-own", broker="memory://", set_as_current=False)


@app.task(name="lookup.opay", shared=False)
def lookup(requests: object) -> None:
    """The task of the messages."""


def celerys(entry: dict[str, Any]) -> tuple[Any, datetime | None, datetime | None]:
    """What Celery makes of an entry: its requests, eta and expires. Raises what Celery's worker would meet."""
    connection: Any
    with Connection("memory://") as connection:
        taken = Message(json.loads(json.dumps(entry)), channel=connection.channel())
        taken.accept = {"application/json"}
        assert not taken.errors
        more: dict[str, Any] = {}
        if "task" not in taken.headers:
            content, headers, decoded, utc = proto1_to_proto2(taken, taken.decode())
            more = {"body": content, "headers": headers, "decoded": decoded, "utc": utc}
        request: Any = Request(taken, app=app, task=app.tasks["lookup.opay"], **more)
        args, kwargs, _ = request._payload if not more else request.body
        assert not args
        return kwargs["requests"], request.eta and request._eta, request.expires and request._expires


def ours(entry: dict[str, Any]) -> Envelope | None:
    try:
        return open_envelope(json.dumps(entry).encode(), TASKS, LIMIT)
    except MalformedError:
        return None


@pytest.mark.parametrize("name", VARIANTS)
def test_every_entry_that_celery_takes_is_taken_and_means_the_same(name: str) -> None:
    entry = VARIANTS[name]
    try:
        requests, eta, expires = celerys(entry)
    except Exception:  # noqa: BLE001 - a worker of Celery's own does not take it, by any error
        return
    envelope = ours(entry)
    assert envelope is not None
    assert envelope.requests == requests == [GOOD]
    for mine, its in ((envelope.eta, eta), (envelope.expires, expires)):
        assert mine == (its and its.replace(tzinfo=its.tzinfo or UTC))


@pytest.mark.parametrize(
    "name",
    ["plain", "protocol 1", "base64 in lines", "base64 with spaces", "content encoding 'latin-1'",
     "no base64", "compressed as gzip", "eta '20310203T040506Z'", "eta '2031'"],
)  # fmt: skip
def test_celery_itself_takes_these(name: str) -> None:
    assert celerys(VARIANTS[name])[0] == [GOOD]
    assert ours(VARIANTS[name]) is not None


@pytest.mark.parametrize("value", ["", 0, False, [], {}])
def test_a_time_that_is_empty_is_none(value: object) -> None:
    """As Celery means it, though its release of today stumbles over what it made of it."""
    for entry in (with_headers(eta=value, expires=value), protocol_1(eta=value, expires=value)):
        envelope = ours(entry)
        assert envelope is not None
        assert (envelope.eta, envelope.expires) == (None, None)


def test_times_are_those_that_are_written() -> None:
    envelope = ours(VARIANTS["eta '2031-02-03T05:05:06.000000+01:00'"])
    assert envelope is not None
    assert envelope.eta == LATER
