"""Redis behind TLS that wants client certificates: for worker, client and command line."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from cardtoken import AsyncClient, Client
from cardtoken.bounded import UnusableServerError
from cardtoken.cli import cardtoken
from cardtoken.connection import Endpoint
from cardtoken.errors import RedisUnavailableError
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator, WorkerProcess
from tests.tls_front import Files, TlsFront, make_files

REQUEST = {"opay_token": "OPAY_TOKEN_visa"}
WANTED = r"wants a client certificate: set REDIS_CERT_FILE and REDIS_KEY_FILE \(cert_file and key_file"
VERSIONS = [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def front(redis_server: RedisServer, files: Files) -> Iterator[TlsFront]:
    assert redis_server.port is not None
    with TlsFront(redis_server.port, files) as front:
        yield front


def url_of(front: TlsFront) -> str:
    return f"rediss://127.0.0.1:{front.port}/0"


def test_worker_and_both_clients_and_the_command_line_show_their_certificate(
    front: TlsFront, files: Files, redis_server: RedisServer, simulator: Simulator
) -> None:
    url, service = url_of(front), Service(redis_server, simulator)
    given: dict[str, Any] = {"ca_file": files.ca, "cert_file": files.client_cert, "key_file": files.client_key}
    environment = {"REDIS_URL": url, **{f"REDIS_{name.upper()}": str(path) for name, path in given.items()}}
    with service.worker("-Q", "lookup.opay.interactive", **environment), Client(url, **given) as client:
        assert client.lookup(REQUEST).status == "found"

        async def main() -> str:
            async with AsyncClient(url, **given) as client:
                return (await client.lookup(REQUEST)).status

        assert asyncio.run(main()) == "found"
        files_given = [f"--redis-{name.replace('_', '-')}={path}" for name, path in given.items()]
        command = ["--redis-url", url, *files_given, "lookup", "opay", REQUEST["opay_token"]]
        assert CliRunner().invoke(cardtoken, command, catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.3", "TLS 1.2"])
def test_a_client_without_a_certificate_is_told_what_is_wanted_at_once(
    redis_server: RedisServer, files: Files, version: ssl.TLSVersion
) -> None:
    assert redis_server.port is not None
    with TlsFront(redis_server.port, files, newest=version) as front:
        url = url_of(front)
        with Client(url, ca_file=files.ca, retry_for=600) as client, pytest.raises(RedisUnavailableError, match=WANTED):
            client.enqueue(REQUEST)

        async def main() -> None:
            async with AsyncClient(url, ca_file=files.ca, retry_for=600) as client:
                with pytest.raises(RedisUnavailableError, match=WANTED):
                    await client.enqueue(REQUEST)

        asyncio.run(main())


def test_a_worker_without_a_certificate_ends_with_what_is_wanted(
    front: TlsFront, files: Files, redis_server: RedisServer, simulator: Simulator
) -> None:
    environment = Service(redis_server, simulator).environment
    worker = WorkerProcess({**environment, "REDIS_URL": url_of(front), "REDIS_CA_FILE": str(files.ca)})
    assert worker.child.wait(60) == 78
    assert f"Redis at 127.0.0.1:{front.port} wants a client certificate" in worker.log
    assert "REDIS_CERT_FILE and REDIS_KEY_FILE" in worker.log


def test_a_certificate_of_another_authority_is_told_from_none(front: TlsFront, files: Files, tmp_path: Path) -> None:
    other = make_files(tmp_path)
    endpoint = Endpoint(url_of(front), ca_file=files.ca, cert_file=other.client_cert, key_file=other.client_key)
    with closing(endpoint.connect()) as client, pytest.raises(UnusableServerError, match="does not accept"):
        client.ping()
    with (
        closing(Endpoint(url_of(front), ca_file=other.ca).connect()) as client,
        pytest.raises(UnusableServerError, match=r"cannot be verified. Set REDIS_CA_FILE"),
    ):
        client.ping()


def test_a_port_without_tls_is_told_from_one_with_it(front: TlsFront, redis_server: RedisServer, files: Files) -> None:
    no_tls = Endpoint(f"rediss://127.0.0.1:{redis_server.port}/0", ca_file=files.ca)
    tls = Endpoint(f"redis://127.0.0.1:{front.port}/0")
    for endpoint, said in ((no_tls, "does not speak TLS .* write redis://"), (tls, "wants TLS .* write rediss://")):
        with closing(endpoint.connect()) as client, pytest.raises(UnusableServerError, match=said):
            client.ping()

    async def main() -> None:
        client = tls.connect_async()
        with pytest.raises(UnusableServerError, match="wants TLS"):
            await client.ping()
        await client.aclose()

    asyncio.run(main())


def test_files_that_are_no_certificate_and_its_key_are_refused(files: Files, tmp_path: Path) -> None:
    no_pem, other = tmp_path / "no.pem", make_files(tmp_path / "other")
    no_pem.write_text("canary")
    for cert, key, said in (
        (tmp_path / "missing", files.client_key, "missing cannot be read: No such file"),
        (files.client_cert, tmp_path / "missing", "missing cannot be read: No such file"),
        (files.client_cert, other.client_key, "the key does not belong to the certificate"),
        (no_pem, files.client_key, "not in PEM form"),
        (files.client_cert, None, "no file of the key is given"),
        (None, files.client_key, "a key is given without its certificate"),
        (files.client_cert, encrypted_key(tmp_path), "the key is encrypted"),
    ):
        with pytest.raises(ValueError, match=said):
            Client("rediss://127.0.0.1:1/0", cert_file=cert, key_file=key)
        options = [f"--redis-{name}-file={path}" for name, path in (("cert", cert), ("key", key)) if path]
        done = CliRunner().invoke(cardtoken, ["--redis-url=rediss://127.0.0.1:1/0", *options, "status"])
        assert done.exit_code == 2
        assert "canary" not in done.output


def encrypted_key(folder: Path) -> Path:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    plain = load_pem_private_key(trustme.CA().issue_cert("x").private_key_pem.bytes(), None)
    path = folder / "encrypted.pem"
    secret = BestAvailableEncryption(b"secret")
    path.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    return path


@pytest.mark.tools  # the server in the wheel is built without TLS
def test_a_server_that_speaks_tls_itself_wants_and_takes_a_certificate(files: Files) -> None:
    port = free_port()
    tls = {"tls-cert-file": files.server_cert, "tls-key-file": files.server_key, "tls-ca-cert-file": files.ca}
    with RedisServer(extra={"tls-port": str(port), **{name: str(path) for name, path in tls.items()}}):
        url = f"rediss://127.0.0.1:{port}/0"
        with Client(url, ca_file=files.ca, cert_file=files.client_cert, key_file=files.client_key) as client:
            assert client.enqueue(REQUEST).task_id
        with Client(url, ca_file=files.ca, retry_for=600) as client, pytest.raises(RedisUnavailableError, match=WANTED):
            client.enqueue(REQUEST)
