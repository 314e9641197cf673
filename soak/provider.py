"""Both providers as one small server, for what the simulator is too well behaved to say, and to take the time."""

import json
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.raw_server import Peer, RawServer

_BRANDS = {"VISA": "visa", "MASTERCARD": "mastercard", "AMEX": "amex", "JCB": "jcb"}
_TOKEN = b'{"access_token": "soak", "token_type": "Bearer", "expires_in": 3600}'


class Card:
    """The card behind a reference: always the same one."""

    def __init__(self, reference: str) -> None:
        chance = random.Random(reference)  # noqa: S311 - no secret, a card of fiction
        self.reference = reference
        self.brand_raw = chance.choice(list(_BRANDS))
        self.brand = _BRANDS[self.brand_raw]
        self.last4 = f"{chance.randrange(10_000):04}"
        self.first6 = f"{chance.randrange(10**6):06}"
        self.token = f"{chance.getrandbits(128):032x}"

    def answer(self, provider: str) -> dict[str, Any]:
        """The provider's document."""
        if provider == "afterpay":
            return {
                "id": self.token[:20],
                "receiptId": "32432",
                "token": self.token,
                "last4Digits": self.last4,
                "creditLimit": 500,
                "cardBrand": self.brand_raw,
                "cardType": "DEBIT",
                "cardSubType": "gold",
                "issuingBank": "Westpac Banking Corporation",
                "country": "AU",
            }
        customer = {"customerId": "1", "customerName": "n", "customerEmail": "e@example.com", "customerMobile": "2"}
        data = {
            "opayToken": self.reference,
            "brand": self.brand_raw,
            "expiryYear": "29",
            "expiryMonth": "02",
            "createTimestamp": 1637822753,
            "lastFourDigits": self.last4,
            "firstSixDigits": self.first6,
            "customerInfo": customer,
        }
        return {"code": "00000", "message": "SUCCESSFUL", "data": data}


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A whole response; a header's name is written with underscores."""
    head = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in head.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


#: Answers a request for a card: provider, reference, and the connection to say it on. False: hang up afterwards.
Answer = Callable[[str, str, Peer], bool]


def serving(answer: Answer) -> RawServer:
    """Such a server; it gives every client an access token."""

    def serve(peer: Peer) -> None:
        more = True
        while more and (request := peer.request()):
            peer.server.requests.clear()  # they are not read, and there are thousands
            head, _, body = request.partition(b"\r\n\r\n")
            url = urlsplit(head.split()[1].decode())
            if url.path.endswith("/token"):
                peer.send(response(_TOKEN))
            elif url.path.endswith("/query"):
                more = answer("opay", json.loads(body)["opayToken"], peer)
            else:
                more = answer("afterpay", parse_qs(url.query)["originalRequestId"][0], peer)

    return RawServer(serve)


class Clock:
    """When the provider saw each reference first."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}

    def answer(self, provider: str, reference: str, peer: Peer) -> bool:
        """Note the time, then answer as it should be."""
        self.seen.setdefault(reference, time.perf_counter())
        peer.send(response(json.dumps(Card(reference).answer(provider)).encode()))
        return True
