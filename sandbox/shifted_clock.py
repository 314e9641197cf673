"""A way to Redis behind which its clock shows another time, as it does to a host whose own clock is wrong."""

import re
import socket
import threading
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

#: The reply to TIME.
_TIME: Final = re.compile(rb"(?<=\*2\r\n\$10\r\n)\d{10}(?=\r\n\$\d\r\n\d+\r\n)")


class ShiftedServer:
    """Passes everything on to a Redis, whose TIME is so many seconds more: the host of who asks is as much behind."""

    def __init__(self, url: str, ahead: int) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 6379))
        #: May be changed while connections are open.
        self.ahead = ahead
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._sockets.append(server)
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
        return b"%d" % (int(found.group()) + self.ahead)

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()
