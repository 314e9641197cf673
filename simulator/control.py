"""The endpoints under `/_simulator/`: what was called, how to begin again, how to break a provider."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable

from aiohttp import web

from simulator.answers import json_answer
from simulator.provider import DOWN, FLAKY, HANG, NORMAL, Provider
from simulator.stats import Stats, Tally

PREFIX = "/_simulator/"
MAX_LATENCY = 3600.0


class Behaviour:
    """How slow every provider answers, and in which mode each of its services is."""

    def __init__(self, providers: Iterable[Provider], latency: float) -> None:
        """Normal modes, and `latency` seconds before every answer of a provider."""
        self._first_latency = latency
        self._modes: dict[str, tuple[str, ...]] = {}
        for provider in providers:
            self._modes[provider.name] = (NORMAL, DOWN, HANG, FLAKY)
            self._modes.update({endpoint.switch: endpoint.modes for endpoint in provider.endpoints()})
        self.reset()

    def reset(self) -> None:
        """Back to how the simulator was started."""
        self.latency = self._first_latency
        self.modes = dict.fromkeys(self._modes, NORMAL)

    def change(self, document: object) -> None:
        """Set what `document` names and leave the rest; ValueError, and no change, when it names anything unknown."""
        if not isinstance(document, dict):
            raise ValueError("send a JSON object")  # noqa: TRY004 - one kind of error for one kind of answer
        latency, modes = self.latency, dict(self.modes)
        for key, value in document.items():
            if key == "latency":
                latency = checked_latency(value)
            elif key not in self._modes:
                raise ValueError(f"{key!r} is none of latency, {', '.join(self._modes)}")
            elif value not in self._modes[key]:
                raise ValueError(f"{key} is {value!r}; it can be {', '.join(self._modes[key])}")
            else:
                modes[key] = value
        self.latency, self.modes = latency, modes

    def document(self) -> dict[str, object]:
        """What is in force."""
        return {"latency": self.latency, **self.modes}


class Control:
    """Answers the control endpoints. Tooling for tests and demos: anyone who reaches the port may use it."""

    def __init__(self, stats: Stats, behaviour: Behaviour, tally: Tally, providers: Iterable[Provider]) -> None:
        """Show `stats`, change `behaviour`, and clear all three on reset; change the secrets that providers accept."""
        self._providers = {provider.name: provider for provider in providers}
        self._stats = stats
        self._behaviour = behaviour
        self._tally = tally

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request whose path begins with the prefix."""
        match request.method, request.path.removeprefix(PREFIX):
            case "GET", "health":
                return json_answer({"status": "ok"})
            case "GET", "stats":
                return json_answer(self._stats.snapshot(_only(request.query.getall("reference", None))))
            case "POST", "reset":
                self._stats.reset()
                self._behaviour.reset()
                self._tally.clear()
                return json_answer({"status": "reset"})
            case "GET" | "PUT", "behaviour":
                return await self._change(request)
            case "GET" | "PUT", "accounts":
                return await self._change_accounts(request)
        return json_answer({"message": f"{request.method} {request.path} does not exist"}, 404)

    async def _change(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return json_answer(self._behaviour.document())
        try:
            self._behaviour.change(json.loads(await request.read()))
        except ValueError as problem:
            return json_answer({"message": str(problem)}, 400)
        return json_answer(self._behaviour.document())

    def _accounts(self) -> dict[str, object]:
        """How often each secret was accepted, in their order; none is shown."""
        return {
            name: {identifier: list(secrets.values()) for identifier, secrets in provider.accounts.items()}
            for name, provider in self._providers.items()
        }

    async def _change_accounts(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return json_answer(self._accounts())
        try:
            wanted = _checked_accounts(json.loads(await request.read()), self._providers)
        except ValueError as problem:
            return json_answer({"message": str(problem)}, 400)
        for name, accounts in wanted.items():
            known = self._providers[name].accounts
            for identifier, secrets in accounts.items():
                counts = known.pop(identifier, {})
                if secrets:
                    known[identifier] = {secret: counts.get(secret, 0) for secret in secrets}
        return json_answer(self._accounts())


def _checked_accounts(document: object, providers: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """`document` as provider → identifier → secrets; ValueError, which shows no secret, unless it is of that shape."""
    if not isinstance(document, dict) or not document.keys() <= set(providers):
        raise ValueError(f"send a JSON object with no other keys than {', '.join(providers)}")
    for accounts in document.values():
        lists = accounts.values() if isinstance(accounts, dict) else [None]
        if not all(isinstance(each, list) and all(isinstance(secret, str) for secret in each) for each in lists):
            raise ValueError("send for each provider an object from identifiers to lists of secrets")
    return document


def checked_latency(value: object) -> float:
    """`value` as seconds; ValueError unless it is a number from 0 to an hour."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"latency is {value!r}; it is a number of seconds")
    if not 0 <= value <= MAX_LATENCY:
        raise ValueError(f"latency is {value}; it can be 0 to {MAX_LATENCY:.0f} seconds")
    return float(value)


def _only(references: list[str] | None) -> list[str] | None:
    return [reference for reference in references if reference] if references is not None else None
