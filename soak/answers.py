"""Providers answer with everything but what they should."""

import gzip
import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from sandbox.ledger import Ledger
from sandbox.messages import entry, queue_of, raw, requests_of
from sandbox.raw_server import Peer
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from soak.provider import Card, response, serving
from soak.record import Plan, Record

ANSWERS = 5_000
_PATIENCE = 60.0
_LIST = 50
#: What a member may be instead of what it should; none of it is another card's valid value.
_ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    "",
    " ",
    "x" * 5000,
    "\x00",
    "\ud800",
    [],
    [1],
    {},
    {"a": {}},
    "½²³₄",
]


def answers(plan: Plan) -> Record:
    """Every lookup ends with a result, and none with a card that is not its own."""
    count, seed = plan.of(ANSWERS, 20), plan.seed
    cards: dict[str, Card] = {}

    def answer(provider: str, reference: str, peer: Peer) -> bool:
        return _say(peer, provider, cards[reference], random.Random(f"{seed} {reference}"))  # noqa: S311 - as seeded

    with RedisServer() as server, serving(answer) as provider, Simulator() as simulator:
        service = Service(
            server,
            simulator,
            OPAY_BASE_URL=provider.url,
            AFTERPAY_BASE_URL=provider.url,
            HTTP_READ_TIMEOUT="0.5",
            HTTP_TOTAL_TIMEOUT="1",
            RETRY_MAX_ATTEMPTS="2",
            PROVIDER_CONCURRENCY="32",
        )
        ledger = Ledger(service)
        asked: dict[tuple[str, int], Card] = {}
        for start in range(0, count, _LIST):
            name = "opay" if (start // _LIST) % 2 else "afterpay"
            made = requests_of(name, [f"{seed}-{number}" for number in range(start, min(start + _LIST, count))])
            task_id = str(uuid.uuid4())
            for index, request in enumerate(made):
                (reference,) = request.values()
                asked[task_id, index] = cards[reference] = Card(reference)
            ledger.sent.update((task_id, index) for index in range(len(made)))
            ledger.push([(queue_of(name, "bulk"), raw(entry(name, task_id, made)))])
        with service.worker() as worker:
            ledger.drain(_PATIENCE, lambda out: plan.progress(out, count, "answering"))
            alive = worker.child.poll() is None
        counted = ledger.count()
        wrong, ends = 0, {"found": 0, "not_found": 0, "failed": 0}
        for result in ledger.results():
            task_id, _, index = result["lookup_id"].rpartition(":")
            ends[result["status"]] += 1
            wrong += _is_wrong(result, asked[task_id, int(index)])
    return Record(
        goal="a result each, no wrong card",
        passed=counted.exact and not wrong and alive and all(ends[end] for end in ("found", "failed")),
        done={"answers": count},
        figures={"lost": counted.lost, "second results": counted.second, "wrong cards": wrong, **ends},
    )


def _is_wrong(result: dict[str, Any], card: Card) -> bool:
    token = result["token"]
    if token is None:
        return False
    # Afterpay's answer names its own token, so one that was spoilt is as good as any; OPay's is the one asked for.
    values = [card.reference] if result["provider"] == "opay" else [card.token, *_ODD]
    return not (
        token["value"] in values
        and token["last4"] in {card.last4, None}
        and token["brand"] in {card.brand, "unknown", None}
        and token["first6"] in {card.first6, None}
    )


def _say(peer: Peer, provider: str, card: Card, chance: random.Random) -> bool:
    """Answer in one of many wrong ways; False: hang up."""
    document = card.answer(provider)
    return bool(chance.choice(_WAYS)(peer, provider, document, chance))


def _as_it_should(peer: Peer, _: str, document: Any, __: random.Random) -> bool:
    peer.send(response(json.dumps(document).encode()))
    return True


def _members(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    """Members taken away, of another type, or there twice."""
    text = ""
    for _number in range(chance.randint(1, 3)):
        place = chance.choice([each for each in (document, document.get("data")) if isinstance(each, dict)] or [{}])
        if not place:
            continue
        name = chance.choice(list(place))
        if chance.random() < 0.4:
            del place[name]
        else:
            place[name] = chance.choice(_ODD)
    text = json.dumps(document)
    if chance.random() < 0.2:
        text = text.replace("{", '{"code": 5, "token": [], ', 1)
    peer.send(response(text.encode("utf-8", "surrogatepass")))
    return True


def _cut(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    body = json.dumps(document).encode()
    peer.send(response(body[: chance.randrange(len(body))]))
    return True


def _garbage(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    body = json.dumps(document).encode()
    bodies = [
        b"",
        b"\xff\xfe" + body,
        body.replace(b'"', b"\xff", 3),
        b"[" * 100_000,
        b'{"data":' * 5_000,
        b"null",
        b"[]",
        b'"code"',
        b"<html>It works!</html>",
        body * 2,
        chance.randbytes(300),
        body.replace(b":", b": 1e999, ", 1),
        b'{"code": "00000", "data": {"opayToken": 1' + b"0" * 6000 + b"}}",
        b" " * (2 << 20),
    ]
    peer.send(response(chance.choice(bodies)))
    return True


def _status(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    statuses = (
        "201 Created",
        "204 No Content",
        "301 Moved",
        "400 Bad",
        "403 No",
        "409 Twice",
        "418 Teapot",
        "500 Oh",
        "600 Odd",
    )
    status = chance.choice(statuses)
    body = b"" if status.startswith("204") else json.dumps(document).encode()
    peer.send(response(body, status, Location="http://127.0.0.1:9/"))
    return False


def _kind(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    kind = chance.choice(["text/html", "application/xml", "", "application/json; charset=utf-16", "x" * 300])
    peer.send(response(json.dumps(document).encode(), Content_Type=kind))
    return True


def _packed(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    body = gzip.compress(json.dumps(document).encode())
    broken = [body[:-10], b"no gzip", gzip.compress(b" " * (5 << 20)), body]
    peer.send(response(chance.choice(broken), Content_Encoding="gzip"))
    return False


def _lies(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    body = json.dumps(document).encode()
    length = chance.choice([len(body) - 10, len(body) + 10, -1, 10**12])
    peer.send(response(body, Content_Length=str(length)))
    return False


def _hangs_up(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    whole = response(json.dumps(document).encode())
    peer.send(whole[: chance.randrange(len(whole))])
    if chance.random() < 0.5:
        peer.reset()
    return False


def _too_slow(peer: Peer, _: str, document: Any, chance: random.Random) -> bool:
    whole = response(json.dumps(document).encode())
    for at in range(0, len(whole), 8):
        peer.send(whole[at : at + 8])
        if peer.wait(0.1):
            return False
    return False


def _another_card(peer: Peer, provider: str, _: Any, chance: random.Random) -> bool:
    """OPay repeats the token that was asked for; Afterpay's answer names none that could be compared."""
    other = Card(f"another {chance.random()}")
    if provider == "opay":
        peer.send(response(json.dumps(other.answer(provider)).encode()))
    else:
        peer.send(response(b"{}", "404 Not Found"))
    return True


_WAYS: list[Callable[[Peer, str, Any, random.Random], bool]] = [
    *(_as_it_should, _members, _members, _members, _cut, _garbage, _status, _kind, _packed, _lies),
    *(_hangs_up, _another_card, _another_card),
    *([_as_it_should, _members, _cut, _garbage] * 4),
    _too_slow,
]
RUNS: dict[str, Callable[[Plan], Record]] = {"answers": answers}
