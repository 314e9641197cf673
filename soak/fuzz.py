"""Queues full of entries that are not messages, or hardly, among good messages."""

import base64
import bz2
import json
import pickle
import random
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from sandbox.ledger import Ledger
from sandbox.messages import body_1, encoded, entry, entry_1, push, queue_of, raw, requests_of, sent
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from soak.record import Plan, Record

ENTRIES, GOOD = 10_000, 1_000
_PATIENCE = 60.0
_QUEUES = [(provider, lane) for provider in ("opay", "afterpay") for lane in ("interactive", "bulk")]
_ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        10**30,
        2**63,
        "",
        " ",
        "x",
        "\x00",
        "\ud800",
        "🂡" * 50,
        [],
        {},
        [[]],
        [None] * 600,
    ),
    *({"a": 1}, {"lookup_id": 5}, "lookup.opay", "pickle", "application/x-python-serialize", "application/x-yaml"),
    *(
        "9999-12-31T23:59:59Z",
        "2020-01-01T00:00:00",
        "not a time",
        "base64",
        {"__type__": "datetime", "__value__": "x"},
    ),
]
#: What a log of a worker that has lost its connection would say.
_TROUBLE = ("Connection to broker lost", "queues cannot be asked", "Trying again", "goes to quarantine: an unexpected")


def fuzz(plan: Plan) -> Record:
    """One worker finds thousands of spoilt entries among a thousand good ones."""
    spoilt, good, chance = plan.of(ENTRIES, 100), plan.of(GOOD, 20), plan.chance("entries")
    with RedisServer() as server, Simulator() as simulator:
        service = Service(server, simulator, RETRY_MAX_ATTEMPTS="2", INTERACTIVE_DEADLINE="60")
        ledger = Ledger(service)
        bad: dict[bytes, str] = {}
        while len(bad) < spoilt:
            provider, lane = _QUEUES[len(bad) % 4]
            bad.setdefault(_spoilt(provider, lane, chance), queue_of(provider, lane))
        mixed = list(bad.items())
        for number in range(good):
            provider, lane = _QUEUES[number % 4]
            queue, data = ledger.prepare(provider, [f"{chance.getrandbits(128):032x}"], lane)
            mixed.append((data, queue))
        chance.shuffle(mixed)
        for queue in {queue for _, queue in mixed}:
            push(service.redis, queue, [data for data, name in mixed if name == queue])
        with service.worker() as worker:
            pid, total = worker.child.pid, len(mixed)
            _drained(plan, service, total)
            alive = worker.child.poll() is None and worker.child.pid == pid
            trouble = [line for line in worker.lines if any(words in line for words in _TROUBLE)]
        counted = _Account(service, bad)
        served = sum(counted.results[task_id] == 1 for task_id, _ in ledger.sent)
    return Record(
        goal="same process, each good one answered once, each spoilt one in quarantine or answered",
        passed=alive and not trouble and served == good and not counted.missing and not counted.too_many,
        done={"spoilt entries": spoilt, "good ones": good},
        figures={
            "good ones answered": served,
            "in quarantine": counted.quarantined,
            "answered": counted.answered,
            "waiting for their eta": counted.waiting,
            "unaccounted for": counted.missing,
            "answered more than once": counted.too_many,
            "lines of trouble": len(trouble),
        },
    )


def _drained(plan: Plan, service: Service, total: int) -> None:
    seen, last = -1, time.monotonic()
    while time.monotonic() - last < _PATIENCE:
        left = sum(service.redis.llen(queue_of(*queue)) for queue in _QUEUES)
        left += service.redis.zcard("lookup:leases")
        left += sum(service.redis.zcount(f"lookup:delayed:{queue_of(*queue)}", "-inf", 1e13) for queue in _QUEUES)
        if left != seen:
            seen, last = left, time.monotonic()
            plan.progress(total - left, total, "sorting out")
        if left == 0:
            return
        time.sleep(0.2)


class _Account:
    """Where each spoilt entry went, found out from the outside."""

    def __init__(self, service: Service, bad: dict[bytes, str]) -> None:
        redis = service.redis
        kept = {fields[b"raw"] for _, fields in redis.xrange("lookup:quarantine")}
        delayed = {redis.hget(key, "entry") for key in redis.keys("lookup:claim:*")}
        self.results: Counter[str] = Counter()
        for stream in redis.keys("token-records:*"):
            for _, fields in redis.xrange(stream):
                result = json.loads(fields[b"result"])
                self.results[result["task_id"]] += 1
        self.quarantined = self.answered = self.waiting = self.missing = 0
        wanted: Counter[str] = Counter()
        for data in bad:
            if data in kept:
                self.quarantined += 1
            elif data in delayed:
                self.waiting += 1
            else:
                task_id, size = _read(data)
                # The same task id twice is the same lookups twice, answered once.
                wanted[task_id] = max(wanted[task_id], size)
                self.answered += 1
        self.missing = sum(size > self.results[task_id] for task_id, size in wanted.items())
        self.too_many = sum(self.results[task_id] > size for task_id, size in wanted.items())


def _read(data: bytes) -> tuple[str, int]:
    """Task id and number of lookups of an entry that the service has taken for a message."""
    message = json.loads(data)
    properties, headers = message.get("properties") or {}, message.get("headers") or {}
    body = message["body"]
    content = (
        base64.b64decode(body) if properties.get("body_encoding") == "base64" else body.encode("utf-8", "surrogatepass")
    )
    match headers.get("compression"):
        case "application/x-gzip":
            content = zlib.decompress(content)
        case "application/x-bz2":
            content = bz2.decompress(content)
    document = json.loads(content)
    if isinstance(document, list):
        return headers["id"], len(document[1]["requests"])
    return document["id"], len(document["kwargs"]["requests"])


# --- how an entry is spoilt


def _spoilt(provider: str, lane: str, chance: random.Random) -> bytes:
    """A message with something wrong, or nothing like a message; now and then one that is only odd."""
    task_id = str(uuid.UUID(int=chance.getrandbits(128)))
    asked: list[Any] = list(
        requests_of(provider, [f"{chance.getrandbits(128):032x}" for _ in range(chance.randint(1, 3))])
    )
    return chance.choice(_WAYS)(provider, lane, task_id, asked, chance)


Way = Callable[[str, str, str, list[Any], random.Random], bytes]


def _message(provider: str, lane: str, task_id: str, asked: list[Any], chance: random.Random) -> dict[str, Any]:
    make = entry if chance.random() < 0.7 else entry_1
    return make(provider, task_id, asked, lane=lane)


def _members(provider: str, lane: str, task_id: str, asked: list[Any], chance: random.Random) -> bytes:
    """Members of the entry taken away, exchanged, or of another type."""
    message = _message(provider, lane, task_id, asked, chance)
    for _ in range(chance.randint(1, 3)):
        _change(chance.choice([message, message["headers"], message["properties"]]), chance)
        for name in ("headers", "properties"):
            message.setdefault(name, {})
            if not isinstance(message[name], dict):
                return raw(message)
    return raw(message)


def _change(place: dict[str, Any], chance: random.Random) -> None:
    if not place:
        return
    name = chance.choice(list(place))
    if chance.random() < 0.3:
        del place[name]
    elif name not in {"id", "eta", "reply_to"} or chance.random() < 0.3:
        place[name] = deepcopy(chance.choice(_ODD))  # what is in it may be changed next


def _inside(provider: str, lane: str, task_id: str, asked: list[Any], chance: random.Random) -> bytes:
    """The same within the body, at any depth."""
    message = _message(provider, lane, task_id, asked, chance)
    content = json.loads(base64.b64decode(message["body"]))
    for _ in range(chance.randint(1, 3)):
        _deep(content, chance)
    message["body"] = encoded(content)
    return raw(message)


def _deep(place: Any, chance: random.Random) -> None:
    """Change one thing somewhere below."""
    names = list(place) if isinstance(place, dict) else list(range(len(place)))
    if not names:
        return
    name = chance.choice(names)
    if isinstance(place[name], dict | list) and place[name] and chance.random() < 0.7:
        _deep(place[name], chance)
    elif isinstance(place, dict) and chance.random() < 0.3:
        del place[name]
    elif name not in {"eta", "id", "reply_to"}:
        place[name] = deepcopy(chance.choice(_ODD))  # what is in it may be changed next


def _bytes(provider: str, lane: str, task_id: str, asked: list[Any], chance: random.Random) -> bytes:
    """Bytes changed, lost, doubled."""
    data = bytearray(raw(_message(provider, lane, task_id, asked, chance)))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(data) if chance.random() < 0.7 else bytes(data[: chance.randrange(len(data))])


def _body(provider: str, lane: str, task_id: str, asked: list[Any], chance: random.Random) -> bytes:
    """Another body: not base64, not JSON, of another shape, nested, overflowing, packed, pickled."""
    message = _message(provider, lane, task_id, asked, chance)
    good = base64.b64decode(message["body"])
    bodies: list[bytes] = [
        *(b"", b"{", b"[]", b"[[], {}]", b"null", b"\xff\xfe", b"[" * chance.randint(10, 50_000), b'"' + b"x" * 100),
        good.replace(b'"requests"', b'"reqests"'),
        good.replace(b'"requests": [', b'"requests": [1e999, '),
        good.replace(b'"requests": [', b'"requests": [' + b"9" * 5000 + b", "),
        good.replace(b'"requests": [', b'"requests": [' + b"[" * 200 + b"]" * 200 + b", "),
        good.replace(b'"requests": [', b'"requests": [NaN, '),
        good.replace(b'"requests": ', b'"retry": {}, "requests": '),
        pickle.dumps({"requests": asked}),
        b"requests:\n  - !!python/object/apply:os.getpid []\n",
        zlib.compress(good),
        zlib.compress(b" " * 50_000_000) if chance.random() < 0.05 else b"x",
        bz2.compress(good)[:-4],
    ]
    message["body"] = encoded(chance.choice(bodies))
    if chance.random() < 0.3:
        message["headers"]["compression"] = chance.choice(["application/x-gzip", "application/x-bz2", "zstd", 5])
    if chance.random() < 0.2:
        message["body"] = chance.choice(["%%%", message["body"][:-1], "=", good.decode("latin-1"), 5, [], None])
    return raw(message)


def _linked(provider: str, lane: str, task_id: str, asked: list[Any], chance: random.Random) -> bytes:
    """Links, chains, chords, other tasks, arguments off the contract."""
    link = {"task": "lookup.opay", "args": [], "kwargs": {}, "options": {}}
    content = body_1(f"lookup.{provider}", task_id, asked)
    what = chance.randrange(6)
    if what < 3:
        content[("callbacks", "errbacks", "chord")[what]] = chance.choice([[link], link, "x"])
    elif what == 3:
        content["task"] = chance.choice(
            ["celery.ping", "celery.backend_cleanup", "lookup.visa", "lookup", "", "os.system"]
        )
    elif what == 4:
        content["args"] = chance.choice([[1], [asked], {"a": 1}, "x"])
    else:
        content["kwargs"] = chance.choice(
            [{}, [], {"requests": []}, {"requests": asked, "x": 1}, {"requests": asked * 400}]
        )
    return raw(sent(content, {}, task_id, queue_of(provider, lane)))


def _noise(provider: str, lane: str, task_id: str, asked: list[Any], chance: random.Random) -> bytes:
    """Nothing like a message."""
    kinds = [
        chance.randbytes(chance.randint(0, 400)),
        json.dumps(chance.choice(_ODD)).encode() + b" " * chance.randrange(1000),
        b"[" * chance.randint(1, 200_000),
        b'{"a":' * chance.randint(1, 20_000),
        b"9" * chance.randint(1, 10_000),
        task_id.encode(),
    ]
    if chance.random() < 0.01:
        return task_id.encode() + b"x" * (5 << 20)  # larger than the limit
    return chance.choice(kinds)


_WAYS: list[Way] = [_members, _members, _inside, _inside, _inside, _bytes, _bytes, _body, _body, _linked, _noise]
RUNS: dict[str, Callable[[Plan], Record]] = {"fuzz": fuzz}
