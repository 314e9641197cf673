"""A server on loopback that sends exactly the bytes it is given, for answers that no HTTP library would send."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_NO_LINGER = struct.pack("ii", 1, 0)
_PATIENCE = 30.0


class Peer:
    """One accepted connection, as the function that serves it sees it."""

    def __init__(self, sock: socket.socket, server: "RawServer") -> None:
        self.sock = sock
        self.server = server
        self._unread = b""

    def request(self) -> bytes:
        """The next request, whole; empty when the client has gone. The server remembers it."""
        while b"\r\n\r\n" not in self._unread:
            if not self._receive():
                return b""
        head, _, rest = self._unread.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].partition(b":")[2]) if lengths else 0
        while len(rest) < length:
            received = self._receive()
            if not received:
                return b""
            rest += received
        self._unread = rest[length:]
        request = head + b"\r\n\r\n" + rest[:length]
        self.server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, piece: bytes, pause: float = 0.02) -> None:
        """Say it again and again, until the client or the test has had enough."""
        while not self.wait(pause):
            self.send(piece)

    def wait(self, seconds: float) -> bool:
        """Let time pass; True once the test is over."""
        return self.server.over.wait(seconds)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.sock.close()

    def tunnel(self) -> None:
        """Be a proxy: take the CONNECT that was read last at its word."""
        host, _, port = self.server.requests[-1].split()[1].decode().partition(":")
        with socket.create_connection((host, int(port)), _PATIENCE) as upstream:
            self.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pour, args=(upstream, self.sock), daemon=True)
            back.start()
            _pour(self.sock, upstream)
            back.join(_PATIENCE)

    def _receive(self) -> bytes:
        data = self.sock.recv(65536)
        self._unread += data
        return data


Serve = Callable[[Peer], object]


class RawServer:
    """Serves every connection in a thread of its own and closes it when ``serve`` is through.

    ``accepted`` counts connections, ``requests`` holds what ``Peer.request`` has read.
    """

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None = None) -> None:
        self.serve = serve
        self.accepted = 0
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(_PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, name="raw-server", daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        # Closing a listener does not wake the thread that waits at it; a connection does.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass
        self._acceptor.join(_PATIENCE)
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a connection is still being served"

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    sock, _ = self._listener.accept()
                except TimeoutError:
                    continue
                if self.over.is_set():
                    sock.close()
                    return
                self.accepted += 1
                self._open.add(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket) -> None:
        sock = plain
        # A client that goes away, or does not like the certificate, is what these tests are about.
        with contextlib.suppress(OSError):
            sock.settimeout(_PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self.serve(Peer(sock, self))
        # Bytes that the client sent and this side did not read would turn the close into a reset.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.2)
            while sock.recv(65536):
                pass
        self._open.discard(plain)
        sock.close()
        plain.close()


def answering(answer: bytes, *, keep: bool = False) -> Serve:
    """Answer the first request with these bytes and close; with ``keep``, every request of the connection."""

    def serve(peer: Peer) -> None:
        while peer.request():
            peer.send(answer)
            if not keep:
                return

    return serve


def dripping(start: bytes, piece: bytes) -> Serve:
    """Answer a request with a beginning, and then the same piece for ever."""

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(start)
        peer.drip(piece)

    return serve


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
