"""Each kind of REDIS_URL, with a real server of that kind behind it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from celery import Celery

from sandbox.processes import start
from sandbox.redis_server import RedisServer, find_server, free_port
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until

LOOKUPS = [{"opay_token": "OPAY_TOKEN_visa"}, {"opay_token": "OPAY_TOKEN_timeout-1~url"}]


@pytest.fixture
def sentinel(redis_server: RedisServer, tmp_path: Path) -> Iterator[int]:
    """The port of a sentinel that knows the server as ``mymaster`` and wants a password itself."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nrequirepass sentinel-pass\ndir {tmp_path}\n"
        f"sentinel monitor mymaster 127.0.0.1 {redis_server.port} 1\n"
    )
    child = start([find_server(), config, "--sentinel"], name="sentinel", log=tmp_path / "sentinel.log")
    client: Any = redis.Redis(port=port, password="sentinel-pass")

    def knows() -> object:
        try:
            return client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        except redis.RedisError:
            return None

    until(knows)
    yield port
    client.close()
    child.stop()


def test_sentinel_finds_the_primary_for_worker_and_producer_in_the_same_database(
    redis_server: RedisServer, simulator: Simulator, sentinel: int
) -> None:
    service = Service(redis_server, simulator)
    service.redis.flushall()
    # The first sentinels are down, as on the host of a primary that died.
    hosts = ("127.0.0.1:1", "not-a-host.invalid:26379", f"127.0.0.1:{sentinel}")
    url = ";".join(f"sentinel://{host}/2" for host in hosts)
    # A stock producer waits half a minute for those; it has the one that answers first.
    producers = ";".join(f"sentinel://{host}/2" for host in reversed(hosts))
    service.redis = redis.Redis.from_url(redis_server.url.removesuffix("/0") + "/2")
    service.producer = Celery("a-producer-of-its-own", broker=producers)
    options = {"master_name": "mymaster", "sentinel_kwargs": {"password": "sentinel-pass"}}
    service.producer.conf.broker_transport_options = options
    with service.worker(
        REDIS_URL=url, REDIS_SENTINEL_MASTER="mymaster", REDIS_SENTINEL_PASSWORD="sentinel-pass"
    ) as worker:
        service.redis.lpush("lookup.opay.bulk", b"no message")
        assert [result["status"] for result in service.results(service.send("opay", LOOKUPS), 2)] == ["found"] * 2
        assert service.quarantined(b"no message")
        assert "sentinel-pass" not in worker.log
        assert worker.stop() == 0


@pytest.mark.tools  # the server in the wheel is built without TLS
def test_tls_with_a_private_authority_is_verified(simulator: Simulator, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, ca = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    port = free_port()
    tls = {"tls-port": str(port), "tls-cert-file": str(chain), "tls-key-file": str(key), "tls-ca-cert-file": str(ca)}
    with RedisServer(extra={**tls, "tls-auth-clients": "no"}) as server:
        service = Service(server, simulator)
        url = f"rediss://127.0.0.1:{port}/0"
        with service.worker(REDIS_URL=url, REDIS_CA_FILE=str(ca)):
            assert [result["status"] for result in service.results(service.send("opay", LOOKUPS), 2)] == ["found"] * 2
            names = {client["name"] for client in service.redis.client_list() if client["laddr"].endswith(f":{port}")}
            assert "cardtoken-worker" in names
        worker = WorkerProcess({**service.environment, "REDIS_URL": url, "REDIS_CA_FILE": str(tmp_path / "other.pem")})
        assert worker.child.wait(20) == 78
        assert "certificate that cannot be verified" in worker.log
        assert "REDIS_CA_FILE" in worker.log
