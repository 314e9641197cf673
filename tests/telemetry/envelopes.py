"""A server that speaks Sentry's envelope protocol: it keeps all that it is sent."""

import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PUBLIC_KEY = "5c4e5a7f0d3b4c6f9a1e2d3c4b5a6978"


class SentryServer:
    """Listens on loopback; ``raw`` holds each request's path, headers and decompressed body."""

    def __init__(self) -> None:
        self.raw: list[tuple[str, dict[str, str], bytes]] = []
        kept = self.raw

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                encoding = self.headers.get("Content-Encoding", "")
                body = gzip.decompress(body) if encoding == "gzip" else body
                body = zlib.decompress(body) if encoding == "deflate" else body
                kept.append((self.path, dict(self.headers), body))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.dsn = f"http://{PUBLIC_KEY}@127.0.0.1:{self._server.server_address[1]}/42"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of all items of a kind: ``event``, ``transaction``."""
        return [payload for found, payload in self._items() if found == kind]

    def _items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for path, headers, body in list(self.raw):
            assert path == "/api/42/envelope/", path
            assert f"sentry_key={PUBLIC_KEY}" in headers["X-Sentry-Auth"]
            rest = body.split(b"\n", 1)[1]
            while rest:
                head, rest = rest.split(b"\n", 1)
                header = json.loads(head)
                length = header.get("length")
                payload, rest = (rest[:length], rest[length + 1 :]) if length is not None else rest.split(b"\n", 1)
                yield header["type"], json.loads(payload)
