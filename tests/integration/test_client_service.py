"""The client and the whole service: real answers, Redis going away and coming back, consumers that die."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from cardtoken import (
    AsyncClient,
    Client,
    LookupFailedError,
    LookupTimeoutError,
    OpayRequest,
    RedisUnavailableError,
)
from sandbox.environment import ROOT
from sandbox.processes import start
from sandbox.redis_server import RedisServer, find_server
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.integration.test_client_twins import KINDS, Either, Make, closing

STREAM = "token-records:default"


@pytest.fixture(scope="module")
def durable(simulator: Simulator) -> Iterator[Service]:
    """The service on a Redis that keeps its data when it is killed, with one worker."""
    with RedisServer(appendonly=True, appendfsync="always") as server:
        service = Service(server, simulator)
        with service.worker():
            yield service


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes clients of either kind."""
    made: list[Either] = []

    def make(*args: Any, **options: Any) -> Either:
        client: Either = request.param(*args, **options)
        made.append(client)
        return client

    yield make
    closing(made)


@pytest.fixture
def client(make: Make, durable: Service) -> Either:
    return make(durable.server.url)


def later(seconds: float, act: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def replies(service: Service) -> list[Any]:
    found: list[Any] = service.redis.keys("token-records:reply.*")
    return found


def test_a_lookup_is_answered_and_its_queue_is_gone(client: Either, durable: Service) -> None:
    found = client.lookup({"opay_token": "OPAY_TOKEN_visa~answered", "metadata": {"order": "7"}}, 10)
    assert found.status == "found"
    assert found.token is not None
    assert found.token.brand == "visa"
    assert found.token.value.get_secret_value() == "OPAY_TOKEN_visa~answered"
    assert found.metadata == {"order": "7"}
    gone = client.lookup(OpayRequest.model_validate({"opay_token": "OPAY_TOKEN_not-found", "lookup_id": "mine"}), 10)
    assert (gone.status, gone.token, gone.lookup_id) == ("not_found", None, "mine")
    assert client.lookup({"original_request_id": "request-visa"}, 10, lane="bulk").provider == "afterpay"
    assert replies(durable) == []


def test_a_lookup_that_failed_is_an_error_with_its_result(client: Either, durable: Service) -> None:
    reference = "OPAY_TOKEN_code-20000~failed"
    with pytest.raises(LookupFailedError) as raised:
        client.lookup({"opay_token": reference}, 10)
    error = raised.value
    assert (error.category, error.code, error.retryable) == ("rejected", "20000", False)
    assert error.result.status == "failed"
    assert "rejected, code 20000" in str(error)
    assert reference not in "".join(traceback.format_exception(error))
    with pytest.raises(LookupFailedError, match="invalid_request"):
        client.lookup({"opay_token": reference, "account": "nobodys"}, 10)
    assert replies(durable) == []


def test_the_service_learns_when_no_caller_waits_any_more(durable: Service) -> None:
    reference = "OPAY_TOKEN_timeout-9~deadline"
    with Client(durable.server.url) as client, pytest.raises((LookupTimeoutError, LookupFailedError)):
        client.lookup({"opay_token": reference}, 1)
    calls = durable.simulator.stats(reference)["by_reference"].get(reference)
    time.sleep(0.5)
    assert durable.simulator.stats(reference)["by_reference"].get(reference) == calls
    # The worker may have answered "expired" afterwards; then it is Redis that forgets it.
    until(lambda: True if not durable.redis.zcard("lookup:leases") else None)
    for reply in replies(durable):
        assert 0 < durable.redis.ttl(reply) <= 300
        durable.redis.delete(reply)


def test_many_threads_look_up_with_one_client(durable: Service) -> None:
    with Client(durable.server.url) as client, ThreadPoolExecutor(16) as pool:
        names = [f"OPAY_TOKEN_visa~thread-{number}" for number in range(64)]
        found = list(pool.map(lambda name: client.lookup({"opay_token": name}, 20), names))
    assert [each.token.value.get_secret_value() for each in found if each.token] == names
    assert replies(durable) == []


def test_many_tasks_look_up_with_one_client(durable: Service) -> None:
    async def look_up() -> list[str]:
        async with AsyncClient(durable.server.url) as client:
            found = await asyncio.gather(
                *(client.lookup({"opay_token": f"OPAY_TOKEN_visa~task-{number}"}, 20) for number in range(64))
            )
        return [each.token.value.get_secret_value() for each in found if each.token]

    assert asyncio.run(look_up()) == [f"OPAY_TOKEN_visa~task-{number}" for number in range(64)]
    assert replies(durable) == []


def test_an_enqueued_lookup_comes_back_once_under_its_ids(client: Either, durable: Service) -> None:
    queue = f"till-{type(client).__name__}"
    receipt = client.enqueue({"opay_token": "OPAY_TOKEN_visa"}, reply_to=queue)
    assert client.enqueue({"opay_token": "OPAY_TOKEN_visa"}, reply_to=queue, task_id=receipt.task_id) == receipt
    done = client.enqueue_many(
        ({"opay_token": "OPAY_TOKEN_visa", "lookup_id": f"many-{number}"} for number in range(1200)), reply_to=queue
    )
    found = set()
    with client.results(queue, group="till", consumer="1") as results:
        for each in results:
            assert each.lookup_id not in found
            found.add(each.lookup_id)
            if len(found) == 1201:
                break
    assert found == {receipt.lookup_id, *(f"many-{number}" for number in range(1200))}
    assert done.requests == 1200
    assert durable.redis.xpending(f"token-records:{queue}", "till")["pending"] == 0


def test_a_lookup_outlives_redis(client: Either, durable: Service) -> None:
    def restart() -> None:
        durable.server.kill()
        time.sleep(0.5)
        durable.server.start()

    restarted = later(0.3, restart)
    try:
        found = client.lookup({"opay_token": "OPAY_TOKEN_visa~slow-900~restart"}, 25)
    finally:
        restarted.join()
    assert found.status == "found"
    assert replies(durable) == []
    # Away already when the request is to be pushed.
    durable.server.kill()
    restarted = later(0.4, durable.server.start)
    assert client.lookup({"opay_token": "OPAY_TOKEN_visa"}, 25).status == "found"
    restarted.join()


def test_bulk_goes_on_after_redis_was_away(make: Make) -> None:
    with RedisServer(appendonly=True, appendfsync="always") as server:
        restarted: list[threading.Timer] = []

        def requests() -> Iterator[dict[str, str]]:
            for number in range(9000):
                if number == 4500:
                    server.kill()
                    restarted.append(later(0.5, server.start))
                yield {"opay_token": "OPAY_TOKEN_visa", "lookup_id": f"bulk-{number}"}

        client = make(server.url)
        assert client.enqueue_many(requests()).requests == 9000
        restarted[0].join()
        with redis.Redis.from_url(server.url) as store:
            assert store.llen("lookup.opay.bulk") == 18
        client.close()


class Cutting:
    """A way to Redis that loses the answer to the first push."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lost = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here = self._listener.accept()[0]
                there = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._pass_on, args=(here, there), daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        with here, there, contextlib.suppress(OSError):
            while request := here.recv(1 << 20):
                there.sendall(request)
                answer = there.recv(1 << 20)
                if b"LPUSH" in request and not self.lost:
                    self.lost += 1
                    return
                here.sendall(answer)

    def close(self) -> None:
        self._listener.close()


def test_a_push_whose_answer_got_lost_is_made_again_under_the_same_ids(make: Make, redis_server: RedisServer) -> None:
    assert redis_server.port is not None
    with redis.Redis.from_url(redis_server.url) as store, contextlib.closing(Cutting(redis_server.port)) as way:
        store.flushall()
        client = make(f"redis://127.0.0.1:{way.port}/0")
        receipt = client.enqueue({"opay_token": "OPAY_TOKEN_visa"})
        entries: Any = store.lrange("lookup.opay.interactive", 0, -1)
        assert way.lost == 1
        assert len(entries) == 2
        assert len(set(entries)) == 1
        assert receipt.task_id.encode() in entries[0]
        client.close()


def test_a_reader_outlives_redis_and_the_loss_of_its_group(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as server:
        store: Any = redis.Redis.from_url(server.url)
        client = make(server.url, retry_for=0.1)
        results = client.results(group="till", consumer="1", start="$")
        found: list[str] = []
        waiting = later(0, lambda: found.append(next(results).lookup_id))
        until(lambda: True if store.info("clients")["blocked_clients"] else None)
        server.kill()
        time.sleep(0.5)
        server.start()
        store.xadd(STREAM, {"result": RESULT})
        waiting.join()
        assert found == ["lookup-1"], "what came while there was no group is read"
        assert caplog.text.count("waits for Redis") == 1
        store.xgroup_destroy(STREAM, "till")
        store.xadd(STREAM, {"result": RESULT.replace("lookup-1", "lookup-2")})
        assert [next(results).lookup_id for _ in range(2)] == ["lookup-1", "lookup-2"]
        client.close()


RESULT = (
    '{"schema_version": 1, "lookup_id": "lookup-1", "task_id": "t", "provider": "opay", "account": "default", '
    '"status": "not_found", "attempts": 1, "requested_at": "2026-01-31T12:00:00Z", '
    '"completed_at": "2026-01-31T12:00:01Z"}'
)
CONSUMER = """
import sys, time
from cardtoken import Client
for result in Client(sys.argv[1]).results(group="till", consumer="dies", batch=5):
    print(result.lookup_id, flush=True)
    time.sleep(60)
"""


def test_results_held_by_a_killed_consumer_are_taken_over(redis_server: RedisServer) -> None:
    store: Any = redis.Redis.from_url(redis_server.url)
    store.flushall()
    for number in range(8):
        store.xadd(STREAM, {"result": RESULT.replace("lookup-1", f"lookup-{number}")})
    command = [sys.executable, "-c", CONSUMER, redis_server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lookup-0\n"
        process.kill()
    client = Client(redis_server.url)
    results = client.results(group="till", consumer="lives", claim_idle=0.5)
    assert {next(results).lookup_id for _ in range(8)} == {f"lookup-{number}" for number in range(8)}
    client.close()
    assert list(results) == []
    assert store.xpending(STREAM, "till")["pending"] == 0


INTERRUPTED = """
import sys
from cardtoken import Client
with Client(sys.argv[1]) as client:
    print("begins", flush=True)
    client.lookup({"opay_token": "OPAY_TOKEN_canary_4111111111111111"}, 60)
"""


def test_ctrl_c_leaves_no_reply_queue(redis_server: RedisServer) -> None:
    store: Any = redis.Redis.from_url(redis_server.url)
    store.flushall()
    command = [sys.executable, "-c", INTERRUPTED, redis_server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        until(lambda: True if store.info("clients")["blocked_clients"] else None)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in said
    assert "canary" not in said.replace('"OPAY_TOKEN_canary_4111111111111111"', "")
    commands = store.info("commandstats")
    assert "cmdstat_unlink" in commands
    assert store.keys() == [b"lookup.opay.interactive"]


def test_a_cancelled_lookup_leaves_no_reply_queue(redis_server: RedisServer) -> None:
    store: Any = redis.Redis.from_url(redis_server.url)
    store.flushall()
    store.config_resetstat()

    async def give_up() -> None:
        async with AsyncClient(redis_server.url) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.lookup({"opay_token": "OPAY_TOKEN_visa"}, 60)
            assert (await client.enqueue({"opay_token": "OPAY_TOKEN_visa"})).task_id

    asyncio.run(give_up())
    assert "cmdstat_unlink" in store.info("commandstats")
    assert store.llen("lookup.opay.interactive") == 2


def test_a_redis_that_hangs_costs_a_lookup_little_more_than_its_time() -> None:
    with (
        RedisServer() as server,
        redis.Redis.from_url(server.url, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as own,
        Client(own) as client,
    ):
        paused = later(0.3, server.pause)
        began = time.monotonic()
        with pytest.raises(LookupTimeoutError) as raised:
            client.lookup({"opay_token": "OPAY_TOKEN_visa"}, 1)
        assert time.monotonic() - began < 2.5
        assert isinstance(raised.value.__cause__, RedisUnavailableError)
        paused.join()
        server.resume()


@contextlib.contextmanager
def sentinel_of(server: RedisServer, folder: Path) -> Iterator[int]:
    """The port of a sentinel with a password that knows the server as ``mymaster``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nrequirepass sentinel-pass\ndir {folder}\n"
        f"sentinel monitor mymaster 127.0.0.1 {server.port} 1\n"
    )
    child = start([find_server(), config, "--sentinel"], name="sentinel", log=folder / "sentinel.log")
    with redis.Redis(port=port, password="sentinel-pass") as sentinel:

        def knows() -> object:
            with contextlib.suppress(redis.RedisError):
                return sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
            return None

        until(knows)
    try:
        yield port
    finally:
        child.stop()


def test_sentinel_finds_the_primary(make: Make, redis_server: RedisServer, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_server.url) as store, sentinel_of(redis_server, tmp_path) as port:
        store.flushall()
        url = f"sentinel://127.0.0.1:1;sentinel://127.0.0.1:{port}/0"
        client = make(url, sentinel_master="mymaster", sentinel_password="sentinel-pass")
        client.enqueue({"opay_token": "OPAY_TOKEN_visa"})
        assert store.llen("lookup.opay.interactive") == 1
        lost = make(url, sentinel_master="another", sentinel_password="sentinel-pass", retry_for=0.2)
        with pytest.raises(RedisUnavailableError, match="another"):
            lost.enqueue({"opay_token": "OPAY_TOKEN_visa"})
        client.close()
        lost.close()


@pytest.mark.tools  # the server in the wheel is built without TLS
def test_tls_with_a_private_authority_is_verified(make: Make, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, ca = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    tls = {"tls-port": str(port), "tls-cert-file": str(chain), "tls-key-file": str(key), "tls-ca-cert-file": str(ca)}
    with RedisServer(extra={**tls, "tls-auth-clients": "no"}):
        client = make(f"rediss://127.0.0.1:{port}/0", ca_file=ca)
        assert client.enqueue({"opay_token": "OPAY_TOKEN_visa"}).task_id
        stranger = make(f"rediss://127.0.0.1:{port}/0", retry_for=0.2)
        with pytest.raises(RedisUnavailableError, match=r"(?i)certificate"):
            stranger.enqueue({"opay_token": "OPAY_TOKEN_visa"})
        client.close()
        stranger.close()
