"""From requests to queue entries: checked, stamped, and written as any Celery producer would. No I/O."""

import base64
import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from cardtoken.contract import MAX_REQUESTS, REPLAY_OF, Lane, LookupRequest, QueueName
from cardtoken.errors import InvalidRequestError
from cardtoken.keys import queue_name, task_name
from cardtoken.nearest import unknown_field
from cardtoken.providers import PROVIDERS, in_words

#: What a producer hands in: a request model, or a mapping with the same fields.
AnyRequest = LookupRequest | Mapping[str, object]
#: A queue entry has to stay below this to be taken by a worker with the default settings.
MAX_ENTRY_BYTES: Final = 4 << 20

_NAMES: Final = {provider.request: provider.name for provider in PROVIDERS.values()}
#: Request models by the field that only one of them has.
_MODELS: Final = {provider.reference_field: provider.request for provider in PROVIDERS.values()}
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

_BODY_HEAD, _BODY_TAIL = (
    b'[[], {"requests": [',
    b']}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
)
#: What an entry has beside its body, with room to spare; base64 makes four bytes of three.
_AROUND_BODY = 8192
_MAX_BODY: Final = (MAX_ENTRY_BYTES - _AROUND_BODY) // 4 * 3 - len(_BODY_HEAD) - len(_BODY_TAIL)

_TASK_ID = re.compile(r"[A-Za-z0-9._:-]{1,120}")
_QUEUE_NAME: Final = TypeAdapter[str](QueueName)
#: Where a Celery producer wants replies, which this service does not send; kombu expects the field.
_ANSWERS_TO: Final = str(uuid4())


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be put into a message of its provider."""

    provider: str
    #: Its JSON object.
    text: bytes = field(repr=False)
    lookup_id: str | None
    reply_to: str


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a lookup queue. What it asks for is not shown."""

    queue: str
    task_id: str
    #: The lookups in it.
    count: int
    entry: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was enqueued, by the ids under which its result comes."""

    task_id: str
    lookup_id: str


def prepared(
    given: AnyRequest, now: datetime, *, reply_to: str | None = None, deadline: datetime | None = None
) -> Request:
    """Check a request and stamp what it leaves open: ``requested_at``, ``reply_to``, ``deadline``.

    Raises InvalidRequestError, which names fields and shows no values.
    """
    stamps = {"requested_at": now, "reply_to": reply_to, "deadline": deadline}
    request: LookupRequest
    if isinstance(given, LookupRequest):
        if type(given) not in _NAMES:
            raise InvalidRequestError(f"a request is one of {', '.join(m.__name__ for m in _NAMES)}, or a mapping")
        said: Mapping[str, object] = {name: getattr(given, name) for name in given.model_fields_set}
        request = given.model_copy(update=_missing(said, stamps))
    elif isinstance(given, Mapping):
        request = _validated(_model_of(given), {**given, **_missing(given, stamps)})
    else:
        raise InvalidRequestError(f"a request is a model or a mapping, not {type(given).__name__}")
    text = _encode(request.to_wire()).encode()
    return Request(_NAMES[type(request)], text, request.lookup_id, request.reply_to)


def checked_reply_to(name: str) -> str:
    """Return the name of a result queue. Raises InvalidRequestError for a name that a queue cannot have."""
    try:
        return _QUEUE_NAME.validate_python(name)
    except ValidationError:
        raise InvalidRequestError("reply_to: must be 1 to 64 of A-Z a-z 0-9 . _ -") from None


def checked_task_id(task_id: str | None) -> str:
    """Return the task id, a new one for None. Raises InvalidRequestError for one that lookup ids cannot begin with."""
    if task_id is None:
        return str(uuid4())
    if not _TASK_ID.fullmatch(task_id):
        raise InvalidRequestError("task_id: must be 1 to 120 of A-Z a-z 0-9 . _ : -, such as str(uuid.uuid4())")
    return task_id


def message_of(requests: Sequence[Request], lane: Lane, task_id: str, *, replay_of: str | None = None) -> Message:
    """Return one message with requests to one provider, in Celery's protocol 2 and kombu's form.

    ``replay_of`` is the task id under which the same was asked before; the results have it too.
    """
    provider = requests[0].provider
    queue = queue_name(provider, lane)
    body = _BODY_HEAD + b",".join(request.text for request in requests) + _BODY_TAIL
    lookups = f"{len(requests)} lookup{'s' if len(requests) > 1 else ''}"
    headers: dict[str, object] = {
        "lang": "py",
        "task": task_name(provider),
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": f"{{'requests': '<{lookups}>'}}",
        "origin": f"cardtoken{os.getpid()}@{socket.gethostname()}",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    if replay_of is not None:
        headers[REPLAY_OF] = replay_of
    entry = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": task_id,
            "reply_to": _ANSWERS_TO,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
    return Message(queue, task_id, len(requests), json.dumps(entry).encode())


class Cutter:
    """Cuts a flow of requests, of several providers, into messages of one provider each, as long as they may be.

    ``new_id`` makes their task ids.
    """

    def __init__(
        self, lane: Lane, *, new_id: Callable[[], str] = lambda: str(uuid4()), replay_of: str | None = None
    ) -> None:
        self._lane = lane
        self._new_id = new_id
        self._replay_of = replay_of
        self._open: dict[str, list[Request]] = {}
        self._bytes: dict[str, int] = {}

    def add(self, request: Request) -> Message | None:
        """Add a request. Return the message that this completes, if it does."""
        waiting = self._open.setdefault(request.provider, [])
        size = len(request.text) + 1
        message = None
        if len(waiting) == MAX_REQUESTS or self._bytes.get(request.provider, 0) + size > _MAX_BODY:
            message = self._cut(request.provider)
            waiting = self._open[request.provider]
        waiting.append(request)
        self._bytes[request.provider] = self._bytes.get(request.provider, 0) + size
        return message

    def rest(self) -> list[Message]:
        """Return the messages of the requests that are left."""
        return [self._cut(provider) for provider, waiting in self._open.items() if waiting]

    def _cut(self, provider: str) -> Message:
        requests, self._open[provider], self._bytes[provider] = self._open[provider], [], 0
        return message_of(requests, self._lane, self._new_id(), replay_of=self._replay_of)


def _missing(said: Mapping[str, object], stamps: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in stamps.items() if value is not None and said.get(name) is None}


def _model_of(given: Mapping[str, object]) -> type[LookupRequest]:
    found = [model for name, model in _MODELS.items() if name in given]
    if len(found) != 1:
        known = {name for model in _NAMES for name in model.model_fields}
        unknown = [unknown_field(name, known) for name in given if isinstance(name, str) and name not in known]
        raise InvalidRequestError("; ".join([f"a request has exactly one of {in_words(_MODELS, 'and')}", *unknown[:5]]))
    return found[0]


def _validated(model: type[LookupRequest], fields: Mapping[str, object]) -> LookupRequest:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = [
            _fault(model, fault["loc"], fault["msg"])
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    raise InvalidRequestError(f"not a valid request: {'; '.join(faults)}")


def _fault(model: type[LookupRequest], place: tuple[int | str, ...], words: str) -> str:
    if not place:
        return f"a field: {words}"
    name = str(place[0])
    return f"{name}: {words}" if name in model.model_fields else unknown_field(name, model.model_fields)
