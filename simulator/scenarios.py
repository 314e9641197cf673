"""The magic references that every provider knows, and how a reference names one."""

from __future__ import annotations

import asyncio
import codecs
import dataclasses
import functools
import math
import re
import time
from email.utils import formatdate

from aiohttp import web

from simulator import wire
from simulator.answers import encode, encode_literally, html_answer, json_answer, json_bytes, reason
from simulator.cards import BRANDS
from simulator.provider import Call, Play, Provider, Scenario, at_first

REDIRECT_PATH = "/redirected"
HUGE_SIZE = 5 * 1024 * 1024
DEPTH = 100_000

_HEX = re.compile(r"[0-9a-f]{32}")
_ARGUMENTS = {
    "NNN": r"([2-5]\d\d)",
    "XXXXX": r"([0-9A-Za-z]{1,10})",
    "N": r"(\d{1,6})",
    "S": r"(\d{1,6}(?:\.\d{1,3})?)",
}


async def _slow(call: Call) -> web.StreamResponse:
    await asyncio.sleep(float(call.args[0]))
    return call.found()


def _rate_limited(call: Call) -> web.Response:
    return call.provider.http_error(429, {"Retry-After": str(int(float(call.args[1])))})


def _rate_limited_until(call: Call) -> web.Response:
    # An HTTP date has whole seconds (RFC 9110, 5.6.7): rounded up, it never comes early.
    date = formatdate(math.ceil(time.time() + float(call.args[1])), usegmt=True)
    return call.provider.http_error(429, {"Retry-After": date})


def _odd_json(call: Call) -> web.Response:
    return json_bytes(codecs.BOM_UTF8 + call.body()[:-1] + b',"extra":"a raw\ttab"}')


def _gateway(call: Call) -> web.Response:
    status = int(call.args[0])
    return json_answer({"code": status, "message": reason(status)}, status)


def _spelled(call: Call, name: str, issuer: str, charset: str) -> web.Response:
    card = dataclasses.replace(call.card(), customer_name=name, issuer=issuer)
    return json_bytes(encode_literally(call.provider.found(call.reference, card), charset))


def _with_extra(call: Call, extra: bytes) -> web.Response:
    return json_bytes(call.body()[:-1] + b',"extra":' + extra + b"}")


def _redirect(_: Call) -> web.Response:
    return web.Response(status=302, headers={"Location": REDIRECT_PATH})


SHARED: tuple[Scenario, ...] = (
    *(Scenario(brand, f"A card: {brand}.", Call.found) for brand in BRANDS),
    Scenario("extra-fields", "A card, with fields that no page mentions.", lambda c: _with_extra(c, b'{"new":[1]}')),
    Scenario("odd-json", "A card after a byte order mark, with a raw tab in a text.", _odd_json),
    Scenario(
        "unicode",
        "A card whose texts are Arabic, as UTF-8 bytes.",
        lambda c: _spelled(c, "منى حسن", "البنك الأهلي", "utf-8"),
    ),
    Scenario("not-found", "No such card.", lambda c: c.provider.not_found()),
    Scenario(
        "not-found-then-found-N", "No such card N times, then a card.", at_first(lambda c: c.provider.not_found())
    ),
    Scenario(
        "timeout-N", "OPay code 09, Afterpay 408, N times, then a card.", at_first(lambda c: c.provider.timed_out())
    ),
    Scenario("timeout-always", "OPay code 09, Afterpay 408.", lambda c: c.provider.timed_out()),
    Scenario(
        "unavailable-N",
        "OPay code 90, Afterpay 503, N times, then a card.",
        at_first(lambda c: c.provider.unavailable()),
    ),
    Scenario("unavailable-always", "OPay code 90, Afterpay 503.", lambda c: c.provider.unavailable()),
    Scenario(
        "rate-limited-N-S", "429 with Retry-After of S whole seconds, N times, then a card.", at_first(_rate_limited)
    ),
    Scenario(
        "rate-limited-date-N-S",
        "429 with Retry-After as a date S seconds ahead, N times, then a card.",
        at_first(_rate_limited_until),
    ),
    Scenario(
        "status-NNN",
        "That HTTP status: OPay with an HTML page, Afterpay with a JSON error.",
        lambda c: c.provider.http_error(int(c.args[0])),
    ),
    Scenario("gateway-NNN", "That HTTP status with a gateway's JSON, its code the status as a number.", _gateway),
    Scenario("html-503", "503 with an HTML page.", lambda _: html_answer(503)),
    Scenario("html-200", "200 with an HTML page.", lambda _: html_answer(200)),
    Scenario("malformed", "200 with the first half of the JSON.", lambda c: json_bytes(c.body()[: len(c.body()) // 2])),
    Scenario(
        "not-utf8",
        "A card whose texts are Latin-1 bytes.",
        lambda c: _spelled(c, "Zoé Lefèvre", "Crédit Agricole", "latin-1"),
    ),
    Scenario("array", "200 with the success inside a JSON array.", lambda c: json_answer([c.document()])),
    Scenario("empty", "200 with an empty body.", lambda _: json_bytes(b"")),
    Scenario(
        "deep", "A card, with a field nested 100,000 deep.", lambda c: _with_extra(c, b"[" * DEPTH + b"]" * DEPTH)
    ),
    Scenario("huge", "A card, with a field of 5 MB.", lambda c: _with_extra(c, encode("x" * HUGE_SIZE))),
    Scenario("gzip-bomb", "A card after 50 MB of white space, gzipped to some 50 kB.", wire.gzip_bomb),
    Scenario("redirect", f"302 to `{REDIRECT_PATH}`, where arrivals are counted.", _redirect),
    Scenario("wrong-length", "A Content-Length of 100 bytes more than are sent, then close.", wire.wrong_length),
    Scenario("slow-S", "A card after S seconds.", _slow),
    Scenario("drip-headers", "One byte of the head every 0.2 s, for ever.", wire.drip_headers),
    Scenario("drip-body", "The head, then one byte of the body every 0.2 s, for ever.", wire.drip_body),
    Scenario("hang", "No answer, ever.", wire.hang),
    Scenario("reset", "TCP reset without an answer.", wire.reset),
    Scenario("reset-N", "TCP reset N times, then a card.", at_first(wire.reset)),
    Scenario("reset-body", "TCP reset in the middle of the body.", wire.reset_body),
    Scenario("close", "Clean close without an answer.", wire.close),
)


class Catalogue:
    """All scenarios of one provider, found by reference."""

    def __init__(self, provider: Provider) -> None:
        """Collect the provider's own scenarios and the shared ones that they do not replace."""
        self._prefix = provider.prefix
        self.scenarios = tuple({s.usage: s for s in (*SHARED, *provider.scenarios())}.values())
        self._literal = {s.usage: s for s in self.scenarios if not _has_arguments(s.usage)}
        self._patterns = [(_pattern(s.usage), s) for s in self.scenarios if _has_arguments(s.usage)]
        self._match = functools.lru_cache(maxsize=4096)(self._match_uncached)

    def find(self, reference: str) -> tuple[Play, str, tuple[str, ...]] | None:
        """What plays `reference`, with the scenario's name and arguments; None for a reference that names nothing.

        The name ends at the first `~`: what follows only tells references apart.
        """
        if not reference.startswith(self._prefix):
            return None
        name = reference[len(self._prefix) :].partition("~")[0]
        scenario = self._literal.get(name)
        if scenario is not None:
            return scenario.play, name, ()
        if _HEX.fullmatch(name):
            return Call.found, "", ()
        return self._match(name)

    def _match_uncached(self, name: str) -> tuple[Play, str, tuple[str, ...]] | None:
        for pattern, scenario in self._patterns:
            match = pattern.fullmatch(name)
            if match:
                return scenario.play, scenario.usage, match.groups()
        return None


def _has_arguments(usage: str) -> bool:
    return usage.rpartition("-")[2] in _ARGUMENTS


def _pattern(usage: str) -> re.Pattern[str]:
    return re.compile("-".join(_ARGUMENTS.get(part, re.escape(part)) for part in usage.split("-")), re.ASCII)
