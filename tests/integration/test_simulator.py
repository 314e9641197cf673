"""The simulator, as a process on loopback: what it refuses, what each magic reference does, how it ends."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import hmac
import json
import re
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import requests
import trustme

from simulator.app import PROVIDERS
from simulator.cards import BRANDS, TEST_CARD_NUMBER
from simulator.scenarios import Catalogue

ROOT = Path(__file__).parents[2]
OPAY_PATH = "/api/v1/international/token/query"
AFTERPAY_PATH = "/v1/cards/verification"
MERCHANT, PRIVATE_KEY = "256612345678901", "OPAYPRV16160617080050.388604510744898"
USER_AGENT = (
    "Merchant/SED; Platform/Merchant-SP; MerchantId/ABC123; Channel/app; CountryCode/AU; "
    "System Information/Java/8.3; Service/Unlock"
)
PATIENCE = 10.0


class Process:
    """A simulator in a process of its own."""

    def __init__(self, *options: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "simulator", *options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        match = re.fullmatch(r"simulator listening on (https?://127\.0\.0\.1:(\d+))\n", line)
        assert match, f"unexpected first line: {line!r}"
        self.url, self.port = match[1], int(match[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()


@dataclass
class Client:
    """Makes requests that pass every check, unless a test changes them."""

    server: Process
    session: requests.Session
    token: str

    def opay(self, scenario: str) -> requests.Response:
        return self.opay_body(json.dumps({"opayToken": f"OPAY_TOKEN_{scenario}"}).encode())

    def opay_body(self, body: bytes, **changes: str | None) -> requests.Response:
        return self._send("POST", OPAY_PATH, opay_headers(body), changes, data=body)

    def afterpay(self, scenario: str, **changes: str | None) -> requests.Response:
        headers = afterpay_headers(self.token)
        return self._send("GET", AFTERPAY_PATH, headers, changes, params={"originalRequestId": scenario})

    def new_token(self, **changes: str | None) -> requests.Response:
        headers = {"Accept": "application/json", "Authorization": "Basic YWZ0ZXJwYXk6bWVyY2hhbnRBQkM="}
        return self._send("POST", "/oauth2/token", headers, changes, data={"grant_type": "client_credentials"})

    def _send(
        self, method: str, path: str, headers: dict[str, str], changes: dict[str, str | None], **arguments: Any
    ) -> requests.Response:
        """`changes` are headers with underscores; None takes one away (and requests' own default with it)."""
        merged: dict[str, str | None] = {**headers, **{name.replace("_", "-"): v for name, v in changes.items()}}
        return self.session.request(
            method, self.server.url + path, headers=merged, timeout=PATIENCE, allow_redirects=False, **arguments
        )

    def control(self, method: str, name: str, **arguments: Any) -> requests.Response:
        return self.session.request(method, f"{self.server.url}/_simulator/{name}", timeout=PATIENCE, **arguments)

    def stats(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.control("GET", "stats").json()
        return answer

    def behave(self, **changes: object) -> None:
        self.control("PUT", "behaviour", json=changes).raise_for_status()

    def raw(self, provider: str, scenario: str) -> socket.socket:
        """A connection on which the request, its only one, has been sent and nothing was read."""
        if provider == "opay":
            body = json.dumps({"opayToken": f"OPAY_TOKEN_{scenario}"}).encode()
            start, headers = f"POST {OPAY_PATH}", {**opay_headers(body), "Content-Length": str(len(body))}
        else:
            body, headers = b"", afterpay_headers(self.token)
            start = f"GET {AFTERPAY_PATH}?originalRequestId={scenario}"
        lines = [
            f"{start} HTTP/1.1",
            "Host: simulator",
            "Connection: close",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return connection


def opay_headers(body: bytes) -> dict[str, str]:
    signature = hmac.new(PRIVATE_KEY.encode(), body, hashlib.sha512).hexdigest()
    return {"Content-Type": "application/json", "MerchantId": MERCHANT, "Authorization": f"Bearer {signature}"}


def afterpay_headers(token: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Authorization": f"Bearer {token}",
        "User-Agent": USER_AGENT,
        "Request-Id": uuid.uuid4().hex,
    }


def connect(server: Process, verify: str | None = None) -> Client:
    """A client with an access token of its own, on a server that behaves normally and has counted nothing."""
    client = Client(server, requests.Session(), "")
    # A proxy or a certificate bundle of the environment would come before what a test sets.
    client.session.trust_env = False
    client.session.verify = verify
    client.control("POST", "reset").raise_for_status()
    client.token = client.new_token().json()["access_token"]
    client.control("POST", "reset").raise_for_status()
    return client


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with Process("--exit-with-stdin") as process:
        yield process


@pytest.fixture
def client(server: Process) -> Iterator[Client]:
    client = connect(server)
    with client.session:
        yield client


Ask = Callable[[str], requests.Response]


@pytest.fixture(params=["opay", "afterpay"])
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def ask(client: Client, provider: str) -> Ask:
    return client.opay if provider == "opay" else client.afterpay


def is_card(answer: requests.Response) -> bool:
    if answer.status_code != 200:
        return False
    document = answer.json()
    return bool(document.get("data", {}).get("lastFourDigits")) if "code" in document else bool(document["last4Digits"])


def failure(answer: requests.Response) -> str | int:
    """OPay's code, or Afterpay's HTTP status, of an error in the provider's own shape."""
    document = answer.json()
    if "code" in document:
        assert answer.status_code == 200
        assert document.keys() == {"code", "message", "data"}
        assert document["data"] is None
        return str(document["code"])
    assert document.keys() == {"errorCode", "errorId", "message", "httpStatusCode"}
    assert document["httpStatusCode"] == answer.status_code
    return answer.status_code


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"


# Checks


def test_opay_accepts_the_signature_of_the_published_example(client: Client) -> None:
    body = b'{"opayToken":"OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5"}'
    signature = (
        "3092502a0644676174276cd617c2e1a0ea9ed81127e00493bc443613579f9019"
        "474cc199b238d3bdbc7761239292c140187fcd944e9237e1eb3ec81e7ca8ea4d"
    )
    assert client.opay_body(body, Authorization=f"Bearer {signature}").json() == {
        "code": "00000",
        "message": "SUCCESSFUL",
        "data": {
            "opayToken": "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5",
            "brand": "VISA",
            "createTimestamp": 1637822753,
            "lastFourDigits": "7411",
            "firstSixDigits": "450875",
            "customerInfo": {
                "customerId": "121111113",
                "customerName": "name1",
                "customerEmail": "123@1231.com",
                "customerMobile": "20123111111",
            },
        },
    }


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("MerchantId", None, "02002"),
        ("MerchantId", "999", "02002"),
        ("MerchantId", "256612345678902", "02000"),  # a merchant that exists, but with another key
        ("Authorization", None, "02000"),
        ("Authorization", "Bearer 00", "02000"),
        ("Content_Type", None, "98"),
        ("Content_Type", "text/plain", "98"),
    ],
)
def test_opay_refuses_a_header_that_is_missing_or_wrong(
    client: Client, header: str, value: str | None, code: str
) -> None:
    body = b'{"opayToken":"OPAY_TOKEN_visa"}'
    assert failure(client.opay_body(body, **{header: value})) == code


def test_opay_takes_the_signature_in_lowercase_only(client: Client) -> None:
    body = b'{"opayToken":"OPAY_TOKEN_visa"}'
    signature = opay_headers(body)["Authorization"].removeprefix("Bearer ")
    assert failure(client.opay_body(body, Authorization=f"Bearer {signature.upper()}")) == "02000"
    assert failure(client.opay_body(body, Authorization=signature)) == "02000"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"opayToken":1}',
        b'{"opayToken":""}',
        b'{"customerId":"1"}',
        b'{"opayToken":"OPAY_TOKEN_visa","more":1}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_opay_refuses_a_body_that_is_not_one_token(client: Client, body: bytes) -> None:
    assert failure(client.opay_body(body)) == "02001"


def test_afterpay_answers_the_sample_of_its_page(client: Client) -> None:
    assert client.afterpay("8456732415666565656565656565656").json() == {
        "id": "13e753e2e4a4b2f692b573e5fbe98b7b5523586a",
        "receiptId": "32432",
        "token": "6966af4975984c30ae2e2c18985bc21c",
        "last4Digits": "1111",
        "creditLimit": 123,
        "cardBrand": "VISA",
        "cardType": "DEBIT",
        "cardSubType": "pre-paid giftcard",
        "issuingBank": "Commonwealth Bank of Australia",
        "country": "AU",
    }


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Authorization", None, 401),
        ("Authorization", "Bearer unknown", 401),
        ("Authorization", "Basic YWZ0ZXJwYXk6bWVyY2hhbnRBQkM=", 401),
        ("Content_Type", None, 400),
        ("Content_Type", "text/plain", 400),
        ("Accept", None, 400),
        ("Accept", "*/*", 400),
        ("User_Agent", "", 400),
        ("User_Agent", "python-requests/2", 400),
        ("User_Agent", USER_AGENT.replace("Channel/app", "Channel/pigeon"), 400),
        ("User_Agent", USER_AGENT.replace("Service/Unlock", "Service/Refund"), 400),
        ("User_Agent", USER_AGENT.replace("CountryCode/AU;", "CountryCode/AU"), 400),
        ("User_Agent", USER_AGENT.replace("CountryCode/AU", "CountryCode/Australia"), 400),
        ("User_Agent", USER_AGENT.replace("Java/8.3", "Java"), 400),
        ("Request_Id", None, 400),
        ("Request_Id", "", 400),
        ("Request_Id", "visa", 400),  # the originalRequestId itself
    ],
)
def test_afterpay_refuses_a_header_that_is_missing_or_wrong(
    client: Client, header: str, value: str | None, status: int
) -> None:
    assert failure(client.afterpay("visa", **{header: value})) == status


@pytest.mark.parametrize("part", USER_AGENT.split("; "))
def test_afterpay_wants_every_part_of_the_user_agent(client: Client, part: str) -> None:
    rest = "; ".join(other for other in USER_AGENT.split("; ") if other != part)
    assert failure(client.afterpay("visa", User_Agent=rest)) == 400


def test_afterpay_wants_an_original_request_id(client: Client) -> None:
    assert failure(client.afterpay("")) == 400


def test_afterpay_takes_a_request_id_once(client: Client) -> None:
    request_id = uuid.uuid4().hex
    assert is_card(client.afterpay("visa", Request_Id=request_id))
    assert failure(client.afterpay("visa", Request_Id=request_id)) == 409


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Authorization", None, 401),
        ("Authorization", "Basic ????", 401),
        ("Authorization", "Basic YWZ0ZXJwYXk6d3Jvbmc=", 401),
        ("Accept", None, 400),
        ("Content_Type", "application/json", 400),
    ],
)
def test_no_access_token_without_credentials_and_the_form(
    client: Client, header: str, value: str | None, status: int
) -> None:
    assert failure(client.new_token(**{header: value})) == status


def test_an_access_token_expires() -> None:
    with Process("--token-ttl", "0.3") as process:
        client = connect(process)
        assert client.new_token().json()["expires_in"] == 0.3
        wait_until(lambda: client.afterpay("visa").status_code == 401)


def test_a_wrong_method_is_refused(client: Client) -> None:
    for path in (OPAY_PATH, AFTERPAY_PATH):
        assert client.session.delete(client.server.url + path, timeout=PATIENCE).status_code == 405


# Cards


@pytest.mark.parametrize("brand", BRANDS)
def test_every_brand_has_a_card(ask: Ask, brand: str) -> None:
    assert is_card(ask(brand))


def test_any_hexadecimal_reference_is_always_the_same_card(ask: Ask) -> None:
    reference = uuid.uuid4().hex
    first = ask(reference).json()
    assert ask(reference).json() == first
    assert ask(uuid.uuid4().hex).json() != first


def test_the_brand_is_spelled_in_the_providers_way(client: Client) -> None:
    assert client.opay("amex").json()["data"]["brand"] == "AMEX"
    assert client.afterpay("amex").json()["cardBrand"] == "American Express"


def test_minimal_has_the_mandatory_fields_alone(client: Client) -> None:
    assert client.opay("minimal").json()["data"].keys() == {
        "opayToken",
        "brand",
        "createTimestamp",
        "lastFourDigits",
        "firstSixDigits",
    }
    assert client.afterpay("minimal").json().keys() == {"id", "receiptId", "token", "last4Digits"}


def test_optional_varieties_of_opay(client: Client) -> None:
    assert client.opay("partial-customer").json()["data"]["customerInfo"].keys() == {"customerId"}
    assert isinstance(client.opay("string-timestamp").json()["data"]["createTimestamp"], str)
    expiring = client.opay("with-expiry").json()["data"]
    assert (expiring["expiryYear"], expiring["expiryMonth"]) == ("28", "02")
    assert client.opay("success-00").json()["code"] == "00"
    assert client.opay("null-fields").json()["data"]["customerInfo"] is None


def test_optional_varieties_of_afterpay(client: Client) -> None:
    assert '"creditLimit":1234.50,' in client.afterpay("credit-limit").text
    document = client.afterpay("null-fields").json()
    assert document["token"]
    assert document["cardBrand"] is None


def test_texts_travel_as_utf8_and_unknown_fields_come_along(ask: Ask) -> None:
    assert "ال".encode() in ask("unicode").content or "منى".encode() in ask("unicode").content
    assert "extra" in ask("extra-fields").json()


def test_a_token_is_repeated_with_its_suffix(client: Client) -> None:
    assert client.opay("visa~order 17").json()["data"]["opayToken"] == "OPAY_TOKEN_visa~order 17"


# Failures with an answer


@pytest.mark.parametrize(
    ("scenario", "opay", "afterpay"),
    [
        ("not-found", "02006", 404),
        ("no-such-scenario", "02006", 404),
        ("timeout-x", "02006", 404),
        ("timeout-always", "09", 408),
        ("unavailable-always", "90", 503),
        ("unauthorized-always", "02000", 401),
    ],
)
def test_failures_in_the_providers_words(client: Client, scenario: str, opay: str, afterpay: int) -> None:
    assert failure(client.opay(scenario)) == opay
    assert failure(client.afterpay(scenario)) == afterpay


def test_a_reference_without_opays_prefix_is_not_found(client: Client) -> None:
    assert failure(client.opay_body(b'{"opayToken":"visa"}')) == "02006"


@pytest.mark.parametrize("scenario", ["not-found-then-found-2", "timeout-2", "unavailable-2"])
def test_failures_that_end_are_counted_for_each_full_reference(ask: Ask, scenario: str) -> None:
    expected = {"not": {"02006", 404}, "timeout": {"09", 408}, "unavailable": {"90", 503}}[scenario.partition("-")[0]]
    for reference in (scenario, f"{scenario}~another"):
        assert failure(ask(reference)) in expected
        assert failure(ask(reference)) in expected
        assert is_card(ask(reference))


@pytest.mark.parametrize("code", ["09", "96", "20000", "ZZ999"])
def test_any_code_of_opay(client: Client, code: str) -> None:
    assert failure(client.opay(f"code-{code}")) == code


def test_any_http_status(client: Client) -> None:
    assert failure(client.afterpay("status-418")) == 418
    answer = client.opay("status-502")
    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html; charset=utf-8")


@pytest.mark.parametrize("status", [200, 503])
def test_html_pages(ask: Ask, status: int) -> None:
    answer = ask(f"html-{status}")
    assert answer.status_code == status
    assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize(("scenario", "status"), [("unauthorized-1", 401), ("forbidden-1", 403)])
def test_a_refusal_once_revokes_the_access_token(client: Client, scenario: str, status: int) -> None:
    assert failure(client.afterpay(scenario)) == status
    assert failure(client.afterpay("visa")) == 401
    client.token = client.new_token().json()["access_token"]
    assert is_card(client.afterpay(scenario))


def test_a_gateway_answers_with_json_of_its_own(ask: Ask) -> None:
    answer = ask("gateway-503")
    assert (answer.status_code, answer.json()) == (503, {"code": 503, "message": "Service Unavailable"})


def test_rate_limits_tell_when_to_come_back(ask: Ask) -> None:
    limited = ask("rate-limited-1-7")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "7")
    assert is_card(ask("rate-limited-1-7"))

    before = time.time()
    limited = ask("rate-limited-date-1-7")
    date = email.utils.parsedate_to_datetime(limited.headers["Retry-After"]).timestamp()
    assert limited.status_code == 429
    assert before + 7 <= date <= time.time() + 8
    assert is_card(ask("rate-limited-date-1-7"))


def test_bodies_that_are_no_success(ask: Ask) -> None:
    for scenario in ("malformed", "not-utf8"):
        with pytest.raises(ValueError, match=r"."):
            json.loads(ask(scenario).content)
    assert isinstance(ask("array").json(), list)
    assert ask("empty").content == b""


def test_bodies_that_lack_the_card(client: Client) -> None:
    assert client.opay("null-data").json() == {"code": "00000", "message": "SUCCESSFUL", "data": None}
    assert client.afterpay("null-data").json() is None
    assert client.opay("wrong-token").json()["data"]["opayToken"] != "OPAY_TOKEN_wrong-token"
    assert "token" not in client.afterpay("wrong-token").json()
    assert client.opay("customer-shape").json()["data"].keys() == {"customer", "cardTokens"}


def test_bodies_of_unusual_size(ask: Ask) -> None:
    assert ask("deep").content.count(b"[") == 100_000
    huge = ask("huge")
    assert len(huge.content) > 5 * 1024 * 1024
    assert is_card(huge)


def test_the_bomb_is_small_on_the_wire_only(client: Client, provider: str) -> None:
    with client.raw(provider, "gzip-bomb") as connection:
        head, _, packed = read_all(connection).partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert len(packed) < 100_000
    unpacked = zlib.decompress(packed, wbits=31)
    assert len(unpacked) > 50 * 1024 * 1024
    assert json.loads(unpacked)


def test_an_echo_repeats_what_must_not_be_shown(client: Client, ask: Ask, provider: str) -> None:
    answer = ask("echo-secrets")
    assert failure(answer) == ("20000" if provider == "opay" else 400)
    message = answer.json()["message"]
    assert answer.request.headers["Authorization"] in message
    assert "echo-secrets" in message
    assert TEST_CARD_NUMBER in message
    doubled = [int(digit) * (2 - index % 2) for index, digit in enumerate(TEST_CARD_NUMBER)]
    assert sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def test_a_followed_redirect_is_counted(client: Client, ask: Ask) -> None:
    answer = ask("redirect")
    assert answer.status_code == 302
    assert client.stats()["redirects_followed"] == 0
    client.session.get(client.server.url + answer.headers["Location"], timeout=PATIENCE)
    assert client.stats()["redirects_followed"] == 1


# Failures of the connection


def test_slow_answers_come(ask: Ask) -> None:
    answer = ask("slow-0.2")
    assert is_card(answer)
    assert answer.elapsed.total_seconds() >= 0.2


def test_a_hanging_request_leaves_when_its_client_does(client: Client, provider: str) -> None:
    with client.raw(provider, "hang") as connection:
        wait_until(lambda: client.stats()["in_flight_by_provider"][provider] == 1)
        assert select.select([connection], [], [], 0) == ([], [], [])
    wait_until(lambda: client.stats()["in_flight"] == 0)


@pytest.mark.parametrize("scenario", ["drip-headers", "drip-body"])
def test_drips_come_byte_by_byte(client: Client, provider: str, scenario: str) -> None:
    with client.raw(provider, scenario) as connection:
        received = connection.recv(65536)
        if scenario == "drip-headers":
            assert received == b"H"
            assert connection.recv(65536) == b"T"
        else:
            while not received.endswith(b"1\r\n \r\n"):
                received += connection.recv(65536)
            assert connection.recv(65536) == b"1\r\n \r\n"
    wait_until(lambda: client.stats()["in_flight"] == 0)


def test_a_reset_is_a_reset(client: Client, provider: str) -> None:
    with client.raw(provider, "reset") as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_a_reset_can_come_in_the_middle_of_the_body(client: Client, provider: str) -> None:
    received: list[bytes] = []
    with client.raw(provider, "reset-body") as connection, pytest.raises(ConnectionResetError):
        received.extend(iter(lambda: connection.recv(65536), b""))
    head, _, body = b"".join(received).partition(b"\r\n\r\n")
    promised = re.search(rb"Content-Length: (\d+)", head)
    assert promised
    assert len(body) == int(promised[1]) // 2


def test_resets_can_end(client: Client, ask: Ask, provider: str) -> None:
    with client.raw(provider, "reset-1") as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert is_card(ask("reset-1"))


def test_a_close_is_clean(client: Client, provider: str) -> None:
    with client.raw(provider, "close") as connection:
        assert connection.recv(1) == b""


def test_a_length_can_promise_too_much(client: Client, provider: str) -> None:
    with client.raw(provider, "wrong-length") as connection:
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert json.loads(body)
    assert f"Content-Length: {len(body) + 100}".encode() in head


# Control


def test_stats_tell_who_was_asked_how_often_and_when(client: Client) -> None:
    request_id = uuid.uuid4().hex
    start = time.time()
    client.opay("visa~stats")
    client.afterpay("visa~stats", Request_Id=request_id)
    client.afterpay("visa~stats", Request_Id=request_id)
    client.new_token()
    stats = client.stats()
    others = {provider.name: 0 for provider in PROVIDERS}
    assert stats["requests"] == {**others, "opay": 1, "afterpay": 2}
    assert stats["refused"] == {**others, "opay": 0, "afterpay": 1}
    assert stats["token_requests"] == 1
    assert (stats["in_flight"], stats["max_in_flight"]) == (0, 1)
    calls = stats["by_reference"]["visa~stats"]
    assert (calls["calls"], calls["request_ids"]) == (2, [request_id, request_id])
    assert start <= calls["at"][0] <= calls["at"][1] <= time.time()
    assert stats["by_reference"]["OPAY_TOKEN_visa~stats"]["request_ids"] == []

    shown = client.control("GET", "stats", params={"reference": "visa~stats"}).json()
    assert shown["by_reference"].keys() == {"visa~stats"}
    assert client.control("GET", "stats", params={"reference": ""}).json()["by_reference"] == {}


def test_stats_count_connections_and_reset(client: Client) -> None:
    before = client.stats()["connections_accepted"]
    client.opay("visa")
    assert client.stats()["connections_accepted"] == before
    with client.raw("opay", "close") as connection:
        connection.recv(1)
    assert client.stats()["connections_accepted"] == before + 1
    client.control("POST", "reset")
    stats = client.stats()
    assert stats["connections_accepted"] == 0
    assert stats["by_reference"] == {}


def test_a_provider_can_go_down_and_come_back(client: Client) -> None:
    client.behave(opay="down", afterpay="down")
    assert failure(client.opay("visa")) == "90"
    answer = client.afterpay("visa")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    client.behave(opay="normal")
    assert is_card(client.opay("visa"))
    assert client.afterpay("visa").status_code == 503


def test_a_provider_can_hang(client: Client, provider: str) -> None:
    client.behave(**{provider: "hang"})
    with client.raw(provider, "visa"):
        wait_until(lambda: client.stats()["in_flight_by_provider"][provider] == 1)
    wait_until(lambda: client.stats()["in_flight"] == 0)


def test_the_token_endpoint_can_break(client: Client) -> None:
    client.behave(token_endpoint="down")
    assert client.new_token().status_code == 503
    client.behave(token_endpoint="unauthorized")
    assert failure(client.new_token()) == 401
    client.behave(token_endpoint="refused")
    refused = client.new_token()
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client")
    client.behave(token_endpoint="garbage")
    with pytest.raises(ValueError, match=r"."):
        client.new_token().json()
    client.behave(token_endpoint="hang")
    with pytest.raises(requests.ReadTimeout):
        client.session.post(f"{client.server.url}/oauth2/token", timeout=0.2)


def test_latency_delays_every_answer(client: Client, ask: Ask) -> None:
    client.behave(latency=0.1)
    assert ask("visa").elapsed.total_seconds() >= 0.1


@pytest.mark.parametrize(
    "change",
    [[], {"latency": -1}, {"latency": "1"}, {"latency": True}, {"opay": "off"}, {"opay": []}, {"visa": "down"}],
)
def test_a_behaviour_that_does_not_exist_changes_nothing(client: Client, change: object) -> None:
    before = client.control("GET", "behaviour").json()
    assert client.control("PUT", "behaviour", json=change).status_code == 400
    assert client.control("GET", "behaviour").json() == before


def test_an_account_has_the_secrets_that_it_is_given(client: Client) -> None:
    body = json.dumps({"opayToken": "OPAY_TOKEN_visa"}).encode()

    def code(key: str) -> str:
        signature = hmac.digest(key.encode(), body, "sha512").hex()
        return str(client.opay_body(body, MerchantId="1", Authorization=f"Bearer {signature}").json()["code"])

    assert code("old") == "02002"
    client.control("PUT", "accounts", json={"opay": {"1": ["old", "new"]}}).raise_for_status()
    assert [code(key) for key in ("old", "new", "new", "other")] == ["00000", "00000", "00000", "02000"]
    counts = client.control("PUT", "accounts", json={"opay": {"1": ["new"]}}).json()
    assert counts["opay"]["1"] == [2]
    assert [code(key) for key in ("old", "new")] == ["02000", "00000"]
    several: list[Any] = [[], {"visa": {}}, {"opay": []}, {"opay": {"1": "new"}}, {"opay": {"1": [5]}}]
    for wrong in several:
        assert client.control("PUT", "accounts", json=wrong).status_code == 400
    assert client.control("GET", "accounts").json()["opay"]["1"] == [3]
    client.control("PUT", "accounts", json={"opay": {"1": []}}).raise_for_status()
    assert code("new") == "02002"


def test_health_and_unknown_paths(client: Client) -> None:
    assert client.control("GET", "health").status_code == 200
    assert client.control("GET", "unknown").status_code == 404
    assert client.session.get(client.server.url, timeout=PATIENCE).status_code == 404


# The process


def stop(process: Process, number: signal.Signals) -> int:
    process.popen.send_signal(number)
    return process.popen.wait(PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_while_requests_hang(number: signal.Signals) -> None:
    with Process() as process, contextlib.ExitStack() as connections:
        client = connect(process)
        for scenario in ("hang", "drip-body", "drip-headers", "slow-60"):
            connections.enter_context(client.raw("opay", scenario))
        wait_until(lambda: client.stats()["in_flight"] == 4)
        assert stop(process, number) == 0
        assert process.popen.stdout is not None
        assert process.popen.stdout.read() == ""


def test_the_simulator_ends_with_its_standard_input() -> None:
    with Process("--exit-with-stdin") as process:
        assert process.popen.stdin is not None
        process.popen.stdin.close()
        assert process.popen.wait(PATIENCE) == 0


def test_the_simulator_speaks_https(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(certfile)
    certificate.private_key_pem.write_to_path(keyfile)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    with Process("--certfile", str(certfile), "--keyfile", str(keyfile)) as process:
        assert process.url.startswith("https://")
        client = connect(process, str(trusted))
        assert is_card(client.opay("visa"))
        assert is_card(client.afterpay("visa"))
        with pytest.raises(requests.ConnectionError):
            client.opay("reset")


def test_accounts_can_be_added(tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_text(
        json.dumps(
            {
                "opay": {"shop": {"merchant_id": "42", "private_key": PRIVATE_KEY, "base_url": "http://127.0.0.1"}},
                "afterpay": {"shop": {"client_id": "shop", "client_secret": "hidden"}},
            }
        )
    )
    with Process("--accounts", str(accounts)) as process:
        client = connect(process)
        assert is_card(client.opay_body(b'{"opayToken":"OPAY_TOKEN_visa"}', MerchantId="42"))
        assert client.new_token(Authorization="Basic c2hvcDpoaWRkZW4=").status_code == 200


@pytest.mark.parametrize(
    "document", ["[]", '{"other": {}}', '{"opay": []}', '{"opay": {"shop": {"merchant_id": "hidden"}}}', "{"]
)
def test_a_wrong_accounts_file_is_explained(tmp_path: Path, document: str) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_text(document)
    ended = subprocess.run(
        [sys.executable, "-m", "simulator", "--accounts", str(accounts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("simulator: ")
    assert "hidden" not in ended.stderr
    assert "Traceback" not in ended.stderr


# What is written about it


def known_scenarios() -> set[tuple[str, str]]:
    return {(scenario.usage, provider.title) for provider in PROVIDERS for scenario in Catalogue(provider()).scenarios}


def test_the_readme_lists_the_scenarios_that_exist() -> None:
    section = (ROOT / "simulator" / "README.md").read_text(encoding="utf-8").partition("## Magic references")[2]
    rows = [line.split("|")[1:3] for line in section.partition("## Control")[0].splitlines() if line.startswith("| `")]
    titles = {"both": {"OPay", "Afterpay"}, "every": {provider.title for provider in PROVIDERS}}
    listed = {
        (usage, title)
        for usages, providers in rows
        for usage in re.findall(r"`([^`]+)`", usages)
        for title in titles.get(providers.strip(), {providers.strip()})
    }
    own = {each for each in known_scenarios() - listed if each[1] in titles["every"] - titles["both"]}
    assert listed == known_scenarios() - own, "the page leaves out what other providers alone have"


def test_the_help_lists_the_scenarios_that_exist() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "simulator", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    words = set(ended.stdout.split())
    assert {usage for usage, _ in known_scenarios()} <= words
