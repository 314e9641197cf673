"""The engine against both providers: side by side, in time, each lookup for itself."""

import dataclasses
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
import redis

from cardtoken.contract import Category
from sandbox.environment import CLIENT_SECRET, PRIVATE_KEY
from sandbox.redis_server import RedisServer
from sandbox.service import Simulator
from tasks.http.client import HttpClient
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.lookup import Blocked, Postponed, Reason, Settled
from tasks.lookups.outcomes import Failure, Found, Outcome
from tasks.providers import PROVIDERS
from tasks.providers.provider import Query
from tasks.stores.circuits import VOLUME
from tests.calls import FIELD, TASK, Engines, http_client, lookups, read, reference, run, sent, settle, soon


@pytest.fixture(scope="module")
def own_simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def http() -> Iterator[HttpClient]:
    with http_client(total=3, max_body=1 << 20, connections=64) as http:
        yield http


@pytest.fixture
def providers(own_simulator: Simulator) -> Simulator:
    own_simulator.reset()
    return own_simulator


@pytest.fixture
def make(providers: Simulator, http: HttpClient, redis_server: RedisServer) -> Iterator[Engines]:
    with redis.Redis.from_url(redis_server.url) as client, Engines(providers, http, client) as engines:
        yield engines


@pytest.fixture(params=["opay", "afterpay"])
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


# --- side by side


def test_a_list_runs_side_by_side_within_the_limit(providers: Simulator, make: Engines, name: str) -> None:
    latency, concurrency, length = 0.1, 8, 40
    engine = make(name, concurrency=concurrency)
    assert isinstance(settle(engine, lookups(name, "visa")[0]).outcome, Found)  # connections and access token are there
    providers.reset()
    providers.behave(latency=latency)
    began = monotonic()
    steps = run(engine, lookups(name, *["visa"] * length))
    elapsed = monotonic() - began
    assert {type(step.outcome) for step in steps if isinstance(step, Settled)} == {Found}
    stats = providers.stats()
    assert stats["max_in_flight_by_provider"][name] == concurrency
    assert stats["requests"][name] == length
    ideal = length / concurrency * latency
    assert ideal <= elapsed < 2 * ideal


def test_a_fast_lookup_does_not_wait_for_a_slow_one(providers: Simulator, make: Engines, name: str) -> None:
    engine = make(name)
    asked = lookups(name, "hang", "visa", "not-found", deadline=soon(0.7))
    began = monotonic()
    at = {step.lookup.index: monotonic() - began for batch in engine.run(asked) for step in batch}
    assert max(at[1], at[2]) < 0.25
    assert at[0] > 0.5


def test_a_short_list_does_not_wait_for_a_long_one(providers: Simulator, make: Engines) -> None:
    engine = make("opay", concurrency=4)
    providers.behave(latency=0.05)
    started = threading.Event()

    def long() -> float:
        for _ in engine.run(lookups("opay", *["visa"] * 80)):
            started.set()
        return monotonic()

    with ThreadPoolExecutor(1) as threads:
        long_ended = threads.submit(long)
        assert started.wait(10)
        began = monotonic()
        run(engine, lookups("opay", *["visa"] * 4))
        short_ended = monotonic()
        assert short_ended - began < 0.4
        assert short_ended < long_ended.result() - 0.3
    # Both together keep to the limit.
    assert providers.stats()["max_in_flight_by_provider"]["opay"] == 4


def test_an_empty_list_has_no_steps(make: Engines) -> None:
    assert list(make("opay").run([])) == []


# --- each for itself


def test_an_unexpected_error_is_one_lookups_and_not_its_lists(
    make: Engines, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = PROVIDERS[name]

    def parse(response: HttpResponse, query: Query[Any]) -> Outcome:
        if "amex" in query.reference.get_secret_value():
            raise RuntimeError(f"confidential {query.reference.get_secret_value()} {response.body!r}")
        return good.parse(response, query)

    caplog.set_level(logging.DEBUG, "tasks")
    engine = make(dataclasses.replace(good, parse=parse))
    asked = lookups(name, "visa", "amex", "visa")
    steps = run(engine, asked)
    outcomes = [step.outcome for step in steps if isinstance(step, Settled)]
    assert outcomes[1] == Failure(Category.INTERNAL, "an unexpected error in this service")
    assert [type(outcome) for outcome in outcomes] == [Found, Failure, Found]
    [line] = caplog.messages
    assert re.fullmatch(rf"lookup {TASK}:1 ended in RuntimeError at tasks/calls/question\.py:\d+", line)
    assert "confidential" not in caplog.text
    assert sent(asked[1]) not in caplog.text


def test_a_lookup_that_cannot_be_asked_fails_without_a_call(providers: Simulator, make: Engines, name: str) -> None:
    field, token = FIELD[name], reference(name, "visa")
    asked = read(
        name,
        {field: token, "deadline": soon(-1)},
        {field: token, "requested_at": soon(-3600)},
        {field: token, "account": "nobody"},
        {field: token, "surprise": 1},
        {field: 17},
        "no object",
    )
    outcomes = [step.outcome for step in run(make(name), asked) if isinstance(step, Settled)]
    assert [outcome.category for outcome in outcomes if isinstance(outcome, Failure)] == [
        Category.EXPIRED,
        Category.EXPIRED,
        Category.INVALID_REQUEST,
        Category.INVALID_REQUEST,
        Category.INVALID_REQUEST,
        Category.INVALID_REQUEST,
    ]
    stats = providers.stats(token)
    assert (stats["requests"][name], stats["token_requests"], stats["by_reference"]) == (0, 0, {})


def test_a_lookup_that_was_not_asked_has_no_attempts(make: Engines, name: str) -> None:
    (expired,) = run(make(name), lookups(name, "visa", deadline=soon(-1)))
    assert expired.lookup.attempts == 0


def test_a_circuit_is_tried_with_a_lookup_that_can_be_asked(providers: Simulator, make: Engines) -> None:
    engine = make("opay")
    providers.behave(opay="down")
    run(engine, lookups("opay", *["visa"] * 40))
    left = engine.admission.seconds_until_trial()
    assert left is not None
    providers.behave(opay="normal")
    time.sleep(max(0.0, left))
    fields = [{FIELD["opay"]: reference("opay", "visa"), **more} for more in ({}, {"deadline": soon(-1)})]
    good, expired = read("opay", *fields)
    steps = run(engine, [good.attempted(), expired])
    assert [type(step.outcome) for step in steps if isinstance(step, Settled)] == [Found, Failure]
    assert engine.admission.seconds_until_trial() is None


# --- of single references


def test_references_that_always_fail_open_no_circuit_however_often_they_are_asked_for(make: Engines) -> None:
    engine = make("opay", max_attempts=100)
    asked = lookups("opay", *["unavailable-always"] * (VOLUME - 1))
    for _ in range(5):
        asked = [step.lookup for step in run(engine, asked)]
    assert {lookup.attempts for lookup in asked} == {5}
    assert isinstance(settle(engine, lookups("opay", "visa")[0]).outcome, Found)


def test_references_that_hang_while_others_are_answered_open_no_circuit(
    providers: Simulator, redis_server: RedisServer
) -> None:
    client = redis.Redis.from_url(redis_server.url)
    with http_client(total=1.2) as http, client, Engines(providers, http, client) as engines:
        engine = engines("opay", concurrency=64)
        hanging = ["hang", "visa"] * (2 * VOLUME)
        steps = run(engine, lookups("opay", *hanging, "visa"))
        assert [isinstance(step, Postponed) for step in steps] == [True, False] * (2 * VOLUME) + [False]
        assert isinstance(settle(engine, lookups("opay", "visa")[0]).outcome, Found)


def test_a_provider_that_hangs_for_all_opens_its_circuit(providers: Simulator, redis_server: RedisServer) -> None:
    client = redis.Redis.from_url(redis_server.url)
    with http_client(total=1.2) as http, client, Engines(providers, http, client) as engines:
        engine = engines("opay", concurrency=64)
        run(engine, lookups("opay", *["visa"] * VOLUME))
        providers.behave(opay="hang")
        run(engine, lookups("opay", *["visa"] * (2 * VOLUME)))
        assert engine.admission.seconds_until_trial() is not None


# --- without room in this worker


class ShortOfFiles:
    """Sends so many requests by a client, and then has no file descriptor for another one."""

    def __init__(self, http: HttpClient, left: int) -> None:
        self.limits = http.limits
        self._http = http
        self.left = left

    def send(self, request: HttpRequest, until: float | None = None, **options: Any) -> HttpResponse | Failure:
        self.left -= 1
        if self.left < 0:
            return Failure(Category.UNAVAILABLE, "no file descriptor is left", local=True)
        return self._http.send(request, until, **options)


def test_a_call_that_this_worker_could_not_make_is_charged_to_nobody(
    providers: Simulator, http: HttpClient, redis_server: RedisServer, name: str
) -> None:
    short: Any = ShortOfFiles(http, 0)
    with redis.Redis.from_url(redis_server.url) as client, Engines(providers, short, client) as engines:
        engine = engines(name, max_attempts=1)
        asked = lookups(name, *["visa"] * (2 * VOLUME))
        steps = run(engine, asked)
        assert {(type(step), getattr(step, "reason", None)) for step in steps} == {(Blocked, Reason.WORKER)}
        assert [step.lookup for step in steps] == asked
        assert engine.admission.seconds_until_trial() is None, "it says nothing of the provider"
        short.left = 1000
        assert {type(step.outcome) for step in run(engine, asked) if isinstance(step, Settled)} == {Found}


def test_a_lookup_that_no_room_is_found_for_in_time_ends_as_a_failure_of_this_service(
    providers: Simulator, http: HttpClient, redis_server: RedisServer
) -> None:
    short: Any = ShortOfFiles(http, 0)
    with redis.Redis.from_url(redis_server.url) as client, Engines(providers, short, client) as engines:
        (step,) = run(engines("opay"), lookups("opay", "visa", deadline=soon(0.5)))
        assert isinstance(step, Settled)
        assert isinstance(step.outcome, Failure)
        assert (step.outcome.category, step.lookup.attempts) == (Category.INTERNAL, 0)
        assert step.outcome.message == "no file descriptor is left"


def test_a_trial_that_this_worker_could_not_make_leaves_it_to_another(
    providers: Simulator, http: HttpClient, redis_server: RedisServer
) -> None:
    short: Any = ShortOfFiles(http, 1000)
    with redis.Redis.from_url(redis_server.url) as client, Engines(providers, short, client) as engines:
        engine = engines("opay")
        providers.behave(opay="down")
        run(engine, lookups("opay", *["visa"] * (2 * VOLUME)))
        providers.behave(opay="normal")
        short.left = 0
        time.sleep(max(0.0, engine.admission.seconds_until_trial() or 0))
        (held,) = run(engine, lookups("opay", "visa"))
        assert isinstance(held, Blocked)
        short.left = 1000
        # A trial that nobody told the end of would keep everybody waiting for half a minute.
        time.sleep(max(0.0, engine.admission.seconds_until_trial() or 0))
        (step,) = run(engine, [held.lookup])
        assert isinstance(step, Settled)
        assert isinstance(step.outcome, Found)


# --- in time


def test_no_call_outlasts_its_lookups_deadline(make: Engines, name: str) -> None:
    engine = make(name)
    began = monotonic()
    steps = run(engine, lookups(name, "hang", "drip-headers", "drip-body", "slow-2", deadline=soon(0.4)))
    assert monotonic() - began < 0.8
    assert [str(step.outcome) for step in steps if isinstance(step, Settled)] == ["timeout"] * 4
    assert {step.lookup.attempts for step in steps} == {1}


def test_waiting_for_an_access_token_does_not_outlast_the_deadline(providers: Simulator, make: Engines) -> None:
    providers.behave(token_endpoint="hang")
    engine = make("afterpay")
    began = monotonic()
    steps = run(engine, lookups("afterpay", "visa", "visa", "visa", deadline=soon(0.4)))
    assert monotonic() - began < 0.8
    assert {str(step.outcome) for step in steps if isinstance(step, Settled)} == {"timeout"}
    stats = providers.stats()
    assert (stats["token_requests"], stats["requests"]["afterpay"]) == (1, 0)


def test_a_refused_request_for_an_access_token_is_authentication(providers: Simulator, make: Engines) -> None:
    providers.behave(token_endpoint="refused")
    (step,) = run(make("afterpay"), lookups("afterpay", "visa"))
    assert isinstance(step, Settled)
    expected = Failure(Category.AUTHENTICATION, "The client secret is wrong.", code="invalid_client", http_status=400)
    assert step.outcome == expected
    assert providers.stats()["requests"]["afterpay"] == 0


def test_nothing_secret_shows_in_steps_and_engine(make: Engines, name: str) -> None:
    engine = make(name)
    (lookup,) = lookups(name, "visa")
    (step,) = run(engine, [lookup])
    shown = f"{step!r} {engine!r} {engine.__dict__!r} {lookup!r}"
    assert sent(lookup) not in shown
    assert PRIVATE_KEY not in shown
    assert CLIENT_SECRET not in shown
    assert "@" not in shown
    assert json.dumps(lookup.sent) not in shown
