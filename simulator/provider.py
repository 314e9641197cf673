"""What a simulated provider is made of, and what a scenario is told about a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web

from simulator.answers import encode, json_answer
from simulator.cards import BRANDS, Card, card_of
from simulator.stats import Tally

Document = dict[str, object]
Answer = web.StreamResponse | Awaitable[web.StreamResponse]
Play = Callable[["Call"], Answer]

NORMAL, DOWN, HANG, FLAKY = "normal", "down", "hang", "flaky"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One magic reference: how it is written, what it does, and the function that does it.

    Capitals at the end of `usage` are arguments: N a count, S seconds, NNN an HTTP status, XXXXX a code.
    """

    usage: str
    summary: str
    play: Play


@dataclass(frozen=True, slots=True)
class Query:
    """What a request asks about. `reference` is None where the request does not say."""

    reference: str | None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider's path beside its lookup, such as the one that issues access tokens."""

    path: str
    switch: str
    """The name under which `PUT /_simulator/behaviour` sets its mode."""
    modes: tuple[str, ...]
    answer: Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Call:
    """A lookup that has passed its provider's checks, on its way to a scenario."""

    request: web.BaseRequest
    provider: Provider
    reference: str
    tally: Tally
    name: str = ""
    args: tuple[str, ...] = ()

    def card(self) -> Card:
        """The card of this reference, of the brand that the scenario is named after, if it is."""
        return card_of(self.reference, self.name if self.name in BRANDS else None)

    def document(self) -> Document:
        """The provider's success for this reference."""
        return self.provider.found(self.reference, self.card())

    def body(self) -> bytes:
        """The provider's success for this reference, as it goes over the wire."""
        return encode(self.document())

    def found(self) -> web.Response:
        """Answer with the provider's success for this reference."""
        return json_answer(self.document())

    def among_first(self, times: int) -> bool:
        """Count this call under its full reference and tell whether it is one of the first `times`."""
        return self.tally.count((self.provider.name, self.reference)) <= times


class Provider(ABC):
    """One provider: the checks it makes, the words it uses, and the scenarios that only it knows."""

    name: ClassVar[str]
    title: ClassVar[str]
    method: ClassVar[str]
    path: ClassVar[str]
    prefix: ClassVar[str] = ""
    """What every reference of this provider begins with, before the name of a scenario."""
    account_fields: ClassVar[tuple[str, str]]
    """The identifier and the secret of an account, as an accounts file names them."""
    built_in_accounts: ClassVar[Mapping[str, str]]

    def __init__(self, accounts: Mapping[str, str] | None = None, *, token_ttl: float = 3600) -> None:
        """Know `accounts` (identifier → secret) beside the built-in ones.

        `token_ttl` is how many seconds an access token lives, for a provider that issues them.
        """
        known = {**self.built_in_accounts, **(accounts or {})}
        #: Identifier → each secret that is accepted, and how often it was.
        self.accounts: dict[str, dict[str, int]] = {each: {secret: 0} for each, secret in known.items()}
        self.token_ttl = token_ttl

    def knows(self, identifier: str, matches: Callable[[str], bool]) -> bool:
        """Tell whether a secret of the account matches, and count it."""
        secrets = self.accounts.get(identifier, {})
        for secret in secrets:
            if matches(secret):
                secrets[secret] += 1
                return True
        return False

    @abstractmethod
    async def read(self, request: web.BaseRequest) -> Query:
        """Read what `request` asks about, without judging it."""

    @abstractmethod
    def check(self, request: web.BaseRequest, query: Query) -> web.Response | None:
        """Answer the refusal that `request` deserves, or None when the provider would look the card up."""

    @abstractmethod
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios of this provider alone; they win over shared ones of the same name."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Further paths of this provider."""
        return ()

    @abstractmethod
    def found(self, reference: str, card: Card) -> Document:
        """The body of a success."""

    @abstractmethod
    def not_found(self) -> web.Response:
        """Say that there is no such card."""

    @abstractmethod
    def timed_out(self) -> web.Response:
        """Say that the lookup took too long inside the provider."""

    @abstractmethod
    def unavailable(self) -> web.Response:
        """Say that the provider cannot work now."""

    @abstractmethod
    def http_error(self, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
        """Answer an HTTP status with the body that this provider gives it."""

    @abstractmethod
    def down(self) -> web.Response:
        """Answer as a provider does whose whole service is out of order."""


def at_first(refuse: Play) -> Play:
    """Play `refuse` as many times as the first argument says, and answer the card from then on."""

    def play(call: Call) -> Answer:
        return refuse(call) if call.among_first(int(call.args[0])) else call.found()

    return play
