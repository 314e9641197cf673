"""Calls to the simulated providers as a worker makes them, without a worker: accounts, requests, lookups, engines."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Self
from uuid import uuid4

from cardtoken.contract import Lane
from cardtoken.secret import CardToken, Secret
from sandbox.environment import CLIENT, CLIENT_SECRET, MERCHANT, PRIVATE_KEY
from sandbox.service import Simulator
from tasks.calls.admission import Admission
from tasks.calls.attempt import Attempts
from tasks.calls.engine import Engine
from tasks.calls.retry import RetryPolicy
from tasks.calls.threads import CallThreads
from tasks.http.client import HttpClient, Limits
from tasks.http.messages import HttpRequest
from tasks.lookups.lookup import Lookup, Settled, Step
from tasks.lookups.reader import RequestReader
from tasks.providers import PROVIDERS, afterpay, opay
from tasks.providers.provider import Account, Provider, Query
from tasks.stores.circuits import Circuits
from tasks.stores.permits import RateLimits
from tasks.telemetry.observer import Observer

FIELD = {"opay": "opay_token", "afterpay": "original_request_id"}
PREFIX = {"opay": "OPAY_TOKEN_", "afterpay": ""}
TASK = "a-task"
READERS = {name: RequestReader(model=each.request, deadlines={Lane.BULK: 30.0}) for name, each in PROVIDERS.items()}
_numbers = count()


@contextmanager
def http_client(
    *,
    connect: float = 5,
    read: float = 5,
    total: float = 5,
    max_body: int = 100_000,
    connections: int = 8,
    ca_file: str | None = None,
    use_env_proxies: bool = False,
) -> Iterator[HttpClient]:
    """A client that is closed at the end of the block."""
    limits = Limits(connect=connect, read=read, total=total, max_body=max_body)
    http = HttpClient(limits, connections, ca_file=ca_file, use_env_proxies=use_env_proxies)
    try:
        yield http
    finally:
        http.close()


def opay_account(simulator: Simulator) -> opay.OpayAccount:
    return opay.OpayAccount(merchant_id=MERCHANT, private_key=Secret(PRIVATE_KEY), base_url=simulator.url)


def afterpay_account(simulator: Simulator) -> afterpay.AfterpayAccount:
    secret = Secret(CLIENT_SECRET)
    return afterpay.AfterpayAccount(client_id=CLIENT, client_secret=secret, base_url=simulator.url)


def opay_request(simulator: Simulator, scenario: str) -> HttpRequest:
    """The signed request for a magic reference."""
    return opay.build(Query(CardToken(reference("opay", scenario)), opay_account(simulator), "0" * 32))


def reference(provider: str, scenario: str) -> str:
    """A magic reference that no test has asked about before."""
    return f"{PREFIX[provider]}{scenario}~{next(_numbers)}"


def read(provider: str, *requests: object) -> list[Lookup]:
    """The lookups of a message that has just come."""
    now = datetime.now(UTC)
    return READERS[provider].read(list(requests), task_id=TASK, lane=Lane.BULK, now=now)


def lookups(provider: str, *scenarios: str, **fields: str) -> list[Lookup]:
    """One lookup for each scenario, all with these further fields."""
    return read(provider, *({FIELD[provider]: reference(provider, each), **fields} for each in scenarios))


def sent(lookup: Lookup) -> str:
    """The reference that a lookup asks about."""
    assert lookup.request is not None
    return lookup.request.reference.get_secret_value()


def soon(seconds: float) -> str:
    """A time so far ahead, as a producer writes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def run(engine: Engine, asked: list[Lookup]) -> list[Step]:
    """One step of each lookup, in their order."""
    steps = [step for batch in engine.run(asked) for step in batch]
    assert sorted(step.lookup.index for step in steps) == [lookup.index for lookup in asked]
    return sorted(steps, key=lambda step: step.lookup.index)


def settle(engine: Engine, lookup: Lookup) -> Settled:
    """The end of a lookup; its waits are left out."""
    while True:
        (step,) = run(engine, [lookup])
        if isinstance(step, Settled):
            return step
        lookup = step.lookup


class Engines:
    """Engines against one simulator, closed together."""

    def __init__(self, simulator: Simulator, http: HttpClient, redis: Any) -> None:
        self._redis = redis
        self._accounts: dict[str, Account] = {"opay": opay_account(simulator), "afterpay": afterpay_account(simulator)}
        self._http = http
        self._engines: list[Engine] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines:
            engine.close()

    def __call__(self, provider: str | Provider[Any], concurrency: int = 8, max_attempts: int = 5) -> Engine:
        chosen = PROVIDERS[provider] if isinstance(provider, str) else provider
        stopping = threading.Event()
        # A name of its own: what one test's provider suffers must not open the circuit of another's.
        circuits, limits = Circuits(self._redis, 30), RateLimits(self._redis, {}, 0.2)
        attempts = Attempts(
            chosen,
            {"default": self._accounts[chosen.name]},
            send=self._http.send,
            call_timeout=self._http.limits.total,
            policies={lane: RetryPolicy(0.01, 0.1, max_attempts) for lane in Lane},
            observer=Observer(chosen.name, chosen.codes),
            now=lambda: datetime.now(UTC),
            admission=Admission(uuid4().hex, ["default"], circuits, limits),
            stopping=stopping,
        )
        engine = Engine(attempts, CallThreads(concurrency, "call"), stopping)
        self._engines.append(engine)
        return engine
