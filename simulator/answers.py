"""Bodies and whole answers that any provider may give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

#: The phrases that Python 3.13 renamed, as gateways have said them for long: the same from every Python.
_PHRASES: Final[Mapping[int, str]] = {
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
}
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
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Unassigned"
