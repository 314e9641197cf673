"""A provider that asks to be left alone is left alone: by all lookups, of both lanes, without a charge."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.raw_server import Peer, RawServer
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.cli.terminal import environment, piped

CONCURRENCY = 8
REST = 3


class Provider:
    """OPay's answers, as long as it is not busy; else what a limiter before it says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.busy = True
        #: How often it was asked while it was busy.
        self.refused = 0

    def serve(self, peer: Peer) -> None:
        while request := peer.request():
            token = json.loads(request.partition(b"\r\n\r\n")[2])["opayToken"]
            if self.busy:
                with self._lock:
                    self.refused += 1
                head, body = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {REST}", b"{}"
            else:
                head = "HTTP/1.1 200 OK\r\nContent-Type: application/json"
                body = json.dumps({"code": "00000", "data": {"opayToken": token, "brand": "VISA"}}).encode()
            peer.send(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def service(provider: Provider, simulator: Simulator) -> Iterator[Service]:
    with RedisServer() as server, RawServer(provider.serve) as raw:
        concurrency = str(CONCURRENCY)
        yield Service(server, simulator, OPAY_BASE_URL=raw.url, PROVIDER_CONCURRENCY=concurrency)


def tokens(count: int, name: str) -> list[object]:
    return [{"opay_token": f"OPAY_TOKEN_{name}{number}"} for number in range(count)]


def test_all_lookups_leave_an_account_alone_for_as_long_as_it_asks(service: Service, provider: Provider) -> None:
    with service.worker():
        bulk = [service.send("opay", tokens(100, f"l{number}-"), lane="bulk") for number in range(2)]
        bulk += [service.send("opay", tokens(1, f"s{number}-"), lane="bulk") for number in range(50)]
        until(lambda: provider.refused or None)
        until(lambda: service.redis.hexists("lookup:circuits:asked", "opay:default") or None)
        patient = service.send("opay", tokens(1, "patient"))
        soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        [hasty] = service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_hasty", "deadline": soon}]), 1)
        assert (hasty["error"]["category"], hasty["attempts"]) == ("rate_limited", 0)
        listed = piped(environment(service.server.url), "circuit", "list").stdout
        assert "the provider asked to be left alone (rate_limited)" in listed
        provider.busy = False
        charged = 0
        for task_id, count in [(patient, 1), *((each, 100) for each in bulk[:2]), *((each, 1) for each in bulk[2:])]:
            results = service.results(task_id, count, timeout=40)
            assert {each["status"] for each in results} == {"found"}
            charged += sum(each["attempts"] - 1 for each in results)
        # Those under way when the first of them was answered, and none after that.
        assert charged == provider.refused <= CONCURRENCY
