"""TLS in front of a server that speaks none: the server in the wheel is built without."""

import select
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True)
class Files:
    """What a server and its client have: an authority, and certificates that it has signed."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_files(folder: Path) -> Files:
    """An authority of its own, and a certificate of each side."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    files = Files(*(folder / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key")))
    authority.cert_pem.write_to_path(files.ca)
    for names, cert, key in (
        (("127.0.0.1", "localhost"), files.server_cert, files.server_key),
        (("client@example.com",), files.client_cert, files.client_key),
    ):
        issued = authority.issue_cert(*names)
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
    return files


class TlsFront:
    """Listens on a free port of 127.0.0.1, speaks TLS there and passes on to another port. In a ``with`` block.

    As Redis does it: a client without a certificate is told so by an alert, and the connection ends.
    """

    def __init__(self, target: int, files: Files, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = newest
        self._context.load_cert_chain(files.server_cert, files.server_key)
        self._context.load_verify_locations(files.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                thread = threading.Thread(target=self._pass_on, args=(plain,))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, plain: socket.socket) -> None:
        with plain, suppress(OSError):
            plain.settimeout(5)
            with (
                self._context.wrap_socket(plain, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self._target)) as server,
            ):
                while not self._ended.is_set():
                    ready = [client] if client.pending() else select.select([client, server], [], [], 0.1)[0]
                    for source in ready:
                        data = source.recv(1 << 16)
                        if not data:
                            return
                        (server if source is client else client).sendall(data)
