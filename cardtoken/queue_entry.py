"""What a queue entry asks for, read leniently by those who only look; a worker judges it (tasks/broker/envelope.py)."""

import base64
import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

#: Bytes of a body, once it is decompressed, that are worth reading.
_READABLE: Final = 8 << 20


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _READABLE)


def _bunzip(data: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, _READABLE)


def _unxz(data: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=64 << 20).decompress(data, _READABLE)


_DECOMPRESS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), _inflate),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), _bunzip),
    **dict.fromkeys(("application/x-lzma", "application/x-xz", "lzma", "xz"), _unxz),
}


def requests_of(entry: bytes) -> list[Any] | None:
    """Return the ``requests`` of an entry, which may be anything; None where it is not a message that can be read."""
    try:
        message = json.loads(entry)
        data = message["body"]
        if message["properties"].get("body_encoding") == "base64":
            data = base64.b64decode(data)
        if compression := (message.get("headers") or {}).get("compression"):
            data = _DECOMPRESS[compression](data)
        body = json.loads(data)
        requests = (body[1] if isinstance(body, list) else body["kwargs"])["requests"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError, EOFError):
        return None
    except (zlib.error, lzma.LZMAError):
        return None
    return requests if isinstance(requests, list) else None
