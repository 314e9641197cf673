"""Answers that HTTP has no word for: written to, or taken from, the transport itself."""

from __future__ import annotations

import asyncio
import functools
import itertools
import socket
import struct
import zlib
from collections.abc import Iterable

from aiohttp import web

from simulator.answers import json_bytes
from simulator.provider import Call

DRIP_INTERVAL = 0.2
"""Seconds between two bytes of a dripping answer."""
BOMB_SIZE = 50 * 1024 * 1024
"""Bytes that the compressed bomb unpacks to."""

_NO_LINGER = struct.pack("ii", 1, 0)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def hang(_: object = None) -> web.Response:
    """Never answer. Ends when the client goes away or the simulator stops."""
    never: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()
    return await never


async def drip_headers(call: Call) -> web.Response:
    """Send a head that never ends."""
    return await _drip(call, itertools.chain(_HEAD + b"X-Filler: ", itertools.repeat(ord("x"))))


async def drip_body(call: Call) -> web.Response:
    """Send a whole head and then a chunked body that never ends, a space at a time."""
    _write(call, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    return await _drip(call, itertools.repeat(b"1\r\n \r\n"))


def reset(call: Call) -> web.Response:
    """Drop the connection with a TCP reset: closing a socket that does not linger sends RST, not FIN."""
    transport = call.request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
    return _unsent()


async def reset_body(call: Call) -> web.Response:
    """Send half of the body, then reset."""
    body = call.body()
    _write(call, _HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])
    # A reset throws away what still waits to be sent; this leaves the half body the time to leave.
    await asyncio.sleep(0.05)
    return reset(call)


def close(call: Call) -> web.Response:
    """Close the connection without a word."""
    transport = call.request.transport
    if transport is not None:
        transport.close()
    return _unsent()


def wrong_length(call: Call) -> web.Response:
    """Promise more bytes than are sent, then close."""
    body = call.body()
    _write(call, _HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) + 100) + body)
    return close(call)


def gzip_bomb(call: Call) -> web.Response:
    """A valid success after 50 MB of white space, a few kilobytes on the wire."""
    compressor, start = _compressed_blank()
    compressor = compressor.copy()
    packed = start + compressor.compress(call.body()) + compressor.flush()
    return json_bytes(packed, headers={"Content-Encoding": "gzip"})


@functools.cache
def _compressed_blank() -> tuple[zlib._Compress, bytes]:
    compressor = zlib.compressobj(9, wbits=31)
    block = b" " * 1024 * 1024
    return compressor, b"".join(compressor.compress(block) for _ in range(BOMB_SIZE // len(block)))


async def _drip(call: Call, pieces: Iterable[int | bytes]) -> web.Response:
    for piece in pieces:
        if not _write(call, piece if isinstance(piece, bytes) else bytes((piece,))):
            break
        await asyncio.sleep(DRIP_INTERVAL)
    return _unsent()


def _write(call: Call, data: bytes) -> bool:
    transport = call.request.transport
    if transport is None or transport.is_closing():
        return False
    transport.write(data)
    return True


def _unsent() -> web.Response:
    """What a handler has to return; the transport is closed, so that nothing of it leaves."""
    return web.Response()
