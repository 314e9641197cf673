"""Bodies and whole answers that any provider may give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

_encoder = json.JSONEncoder(separators=(",", ":"))
_literal_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def encode(document: object) -> bytes:
    """Compact JSON in pure ASCII, whatever text a reference brought along."""
    return _encoder.encode(document).encode("ascii")


def encode_literally(document: object, charset: str) -> bytes:
    """Compact JSON whose characters beyond ASCII are bytes of `charset`, not escapes."""
    return _literal_encoder.encode(document).encode(charset, "replace")


def json_bytes(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer `body`, which is or claims to be JSON."""
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})})


def json_answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer a JSON document."""
    return json_bytes(encode(document), status, headers)


def html_answer(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer the page that a gateway in front of a provider would show."""
    title = f"{status} {reason(status)}"
    page = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return web.Response(
        body=page.encode(), status=status, headers={"Content-Type": "text/html; charset=utf-8", **(headers or {})}
    )


def reason(status: int) -> str:
    """The standard phrase of an HTTP status; a plain word for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unassigned"
