"""Every path of the simulator, and the way of a lookup: count, mode, latency, checks, scenario."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from itertools import cycle

from aiohttp import web

from simulator import wire
from simulator.afterpay import Afterpay
from simulator.answers import json_answer
from simulator.control import PREFIX, Behaviour, Control
from simulator.opay import OPay
from simulator.provider import DOWN, FLAKY, HANG, Call, Endpoint, Provider
from simulator.scenarios import REDIRECT_PATH, Catalogue
from simulator.stats import Stats, Tally

PROVIDERS: tuple[type[Provider], ...] = (
    OPay,
    Afterpay,
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Simulator:
    """All providers behind one request handler."""

    def __init__(
        self,
        accounts: Mapping[str, Mapping[str, str]] | None = None,
        *,
        latency: float = 0.0,
        token_ttl: float = 3600,
    ) -> None:
        """Play every registered provider.

        `accounts` (provider → identifier → secret) come beside the built-in ones; `latency` and `token_ttl` are
        seconds.
        """
        extra = accounts or {}
        providers = [kind(extra.get(kind.name), token_ttl=token_ttl) for kind in PROVIDERS]
        self.stats = Stats(provider.name for provider in providers)
        self._tally = Tally()
        self._behaviour = Behaviour(providers, latency)
        self._control = Control(self.stats, self._behaviour, self._tally, providers)
        self._routes: dict[str, Handler] = {REDIRECT_PATH: self._redirected}
        for provider in providers:
            self._route(provider.path, self._lookup(provider))
            for endpoint in provider.endpoints():
                self._route(endpoint.path, self._endpoint(endpoint))

    def _route(self, path: str, handler: Handler) -> None:
        if path in self._routes:
            raise ValueError(f"two providers have the path {path}: on one port a request to one would reach the other")
        self._routes[path] = handler

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request."""
        path = request.path
        handler = self._routes.get(path)
        if handler is not None:
            return await handler(request)
        if path.startswith(PREFIX):
            return await self._control.answer(request)
        return json_answer({"message": "No provider has this path."}, 404)

    def _lookup(self, provider: Provider) -> Handler:
        stats, name, catalogue = self.stats, provider.name, Catalogue(provider)
        flaky = cycle((True, False))

        async def lookup(request: web.BaseRequest) -> web.StreamResponse:
            stats.began(name)
            try:
                query = await provider.read(request)
                reference = query.reference
                if reference is not None:
                    stats.asked(reference, request.headers.get("Request-Id"))
                mode = self._behaviour.modes[name]
                if mode == HANG:
                    return await wire.hang()
                await self._wait()
                if mode == DOWN or (mode == FLAKY and next(flaky)):
                    return provider.down()
                if request.method != provider.method:
                    refusal: web.Response | None = provider.http_error(405, {"Allow": provider.method})
                else:
                    refusal = provider.check(request, query)
                if refusal is not None or reference is None:
                    stats.refused(name)
                    return refusal or provider.http_error(400)
                found = catalogue.find(reference)
                if found is None:
                    return provider.not_found()
                play, scenario, arguments = found
                answer = play(Call(request, provider, reference, self._tally, scenario, arguments))
                return await answer if inspect.isawaitable(answer) else answer
            finally:
                stats.ended(name)

        return lookup

    def _endpoint(self, endpoint: Endpoint) -> Handler:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            self.stats.token_requests += 1
            mode = self._behaviour.modes[endpoint.switch]
            if mode == HANG:
                return await wire.hang()
            await self._wait()
            return await endpoint.answer(request, mode)

        return answer

    async def _wait(self) -> None:
        if self._behaviour.latency:
            await asyncio.sleep(self._behaviour.latency)

    async def _redirected(self, _: web.BaseRequest) -> web.StreamResponse:
        self.stats.redirects_followed += 1
        return json_answer({"message": "You should not have followed."})
