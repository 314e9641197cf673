"""Clocks that are wrong or are set: deadlines and waits are by Redis' clock, and no lookup pays for the difference."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from redis import Redis

from sandbox.messages import plain, raw, with_headers
from sandbox.service import Service
from tasks.broker.claims import Claims
from tasks.stores.clock import RedisClock

#: The reply to TIME.
_TIME = re.compile(rb"(?<=\*2\r\n\$10\r\n)\d{10}(?=\r\n\$\d\r\n\d+\r\n)")


class ShiftedServer:
    """Passes everything on to a Redis, whose TIME is so many seconds more: the host of who asks is as much behind."""

    def __init__(self, url: str, ahead: int) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 6379))
        self._ahead = ahead
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, shifted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(_TIME.sub(self._shift, data) if shifted else data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _shift(self, found: re.Match[bytes]) -> bytes:
        return b"%d" % (int(found.group()) + self._ahead)

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()


@contextmanager
def shifted(service: Service, ahead: int) -> Iterator[ShiftedServer]:
    server = ShiftedServer(service.server.url, ahead)
    try:
        yield server
    finally:
        server.close()


def in_redis_time(ahead: int, seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=ahead + seconds)).isoformat()


def test_a_worker_whose_clock_is_ahead_asks_for_interactive_lookups_and_says_that_it_is_wrong(service: Service) -> None:
    ahead = -45
    with shifted(service, ahead) as server, service.worker(REDIS_URL=server.url) as worker:
        requests = [
            {"opay_token": f"OPAY_TOKEN_{token}~clock", "requested_at": in_redis_time(ahead)}
            for token in ("visa", "unavailable-1")  # the second is tried again
        ]
        results = service.results(service.send("opay", requests), 2)
        assert [result["status"] for result in results] == ["found", "found"]
        late = {"opay_token": "OPAY_TOKEN_visa~late", "deadline": in_redis_time(ahead, -1)}
        [expired] = service.results(service.send("opay", [late]), 1)
        assert expired["error"]["category"] == "expired"
        [key] = service.redis.keys("lookup:worker:*")
        assert 44 < float(service.redis.hget(key, "clock_offset")) < 46
    assert len(re.findall(r"this host's clock is 4\d\.\d s ahead of Redis'", worker.log)) == 1


def test_a_retry_that_was_put_by_a_clock_an_hour_ahead_comes_when_it_is_due(service: Service) -> None:
    later = in_redis_time(3600)
    state = {
        "index": 0,
        "lookup_id": "mine",
        "attempts": 1,
        "requested_at": in_redis_time(0),
        "deadline": in_redis_time(7200),
        "not_before": later,
    }
    kwargs = {"requests": [{"opay_token": "OPAY_TOKEN_visa~ahead"}], "retry": {"version": 1, "lookups": [state]}}
    entry = with_headers(plain(kwargs, task_id="put-ahead"), retries=1, eta=later)
    with Redis.from_url(service.server.url) as redis:
        clock = RedisClock(redis)
        Claims(redis, 30, 1 << 20, clock).defer("c1", "lookup.opay.bulk", raw(entry), clock.now())
    with service.worker():
        [result] = service.results("put-ahead", 1)
    assert (result["status"], result["lookup_id"], result["attempts"]) == ("found", "mine", 2)


def test_a_dead_workers_messages_are_taken_over_after_redis_clock_went_back_by_an_hour(service: Service) -> None:
    service.send("opay", [{"opay_token": "OPAY_TOKEN_visa~held"}], task_id="held")
    with Redis.from_url(service.server.url) as redis:
        dead = Claims(redis, 30, 1 << 20, RedisClock(redis))
        [claim] = dead.take(["lookup.opay.interactive"], 1)[0]
        redis.zadd("lookup:leases", {claim.id: (datetime.now(UTC).timestamp() + 3630) * 1000})
    with service.worker():
        [result] = service.results("held", 1)
    assert result["status"] == "found"
