"""Attempts at both simulated providers: requests, connections, access tokens and deadlines over real HTTP."""

import json
import re
from collections.abc import Iterator
from time import monotonic

import pytest
import redis

from cardtoken.contract import Category
from sandbox.environment import CLIENT_SECRET, PRIVATE_KEY
from sandbox.redis_server import RedisServer
from sandbox.service import Simulator
from tasks.http.client import HttpClient
from tasks.lookups.lookup import Lookup, Postponed, Settled
from tasks.lookups.outcomes import Failure, Found, NotFound
from tests.calls import Engines, http_client, lookups, run, sent, settle, soon


@pytest.fixture(scope="module")
def own_simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def http() -> Iterator[HttpClient]:
    with http_client(total=3, max_body=1 << 20, connections=32) as http:
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


def calls(providers: Simulator, lookup: Lookup) -> int:
    found = providers.stats(sent(lookup))["by_reference"].get(sent(lookup), {"calls": 0})
    return int(found["calls"])


def test_every_attempt_has_a_request_id_of_its_own(providers: Simulator, make: Engines) -> None:
    engine = make("afterpay", max_attempts=4)
    asked = lookups("afterpay", "unavailable-always", "timeout-2", "unauthorized-1", "visa")
    for lookup in asked:
        settle(engine, lookup)
    seen = providers.stats(*map(sent, asked))["by_reference"]
    ids = [each for lookup in asked for each in seen[sent(lookup)]["request_ids"]]
    assert [seen[sent(lookup)]["calls"] for lookup in asked] == [4, 3, 2, 1]
    assert len(set(ids)) == len(ids) == 10
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert providers.stats()["refused"]["afterpay"] == 0


def test_a_lasting_failure_is_asked_once(providers: Simulator, make: Engines, name: str) -> None:
    asked = lookups(name, "not-found", "status-418", "redirect", "wrong-token")
    outcomes = [step.outcome for step in run(make(name), asked) if isinstance(step, Settled)]
    assert [type(outcome) for outcome in outcomes] == [NotFound, Failure, Failure, Failure]
    # An answer about another token may be the connection's fault: OPay, which names the token, is asked on a new one.
    assert [calls(providers, lookup) for lookup in asked] == [1, 1, 1, 2 if name == "opay" else 1]


def test_an_answered_call_is_not_repeated_behind_the_engines_back(
    providers: Simulator, make: Engines, name: str
) -> None:
    engine = make(name)
    run(engine, lookups(name, "visa"))  # now there is a connection to be reused
    (lookup,) = lookups(name, "unavailable-1")
    (step,) = run(engine, [lookup])
    assert isinstance(step, Postponed)
    assert calls(providers, lookup) == 1


def test_a_used_connection_that_brings_nothing_costs_no_attempt(providers: Simulator, make: Engines, name: str) -> None:
    engine = make(name)
    run(engine, lookups(name, "visa"))
    (lookup,) = lookups(name, "reset-1")
    (step,) = run(engine, [lookup])
    assert isinstance(step, Settled)
    assert isinstance(step.outcome, Found)
    assert step.lookup.attempts == 1
    # The simulator tells Request-Ids that were used before: the second question had one of its own.
    assert calls(providers, lookup) == 2


def test_a_refused_access_token_is_renewed_once(providers: Simulator, make: Engines) -> None:
    engine = make("afterpay")
    (lookup,) = lookups("afterpay", "unauthorized-1")
    settled = settle(engine, lookup)
    assert isinstance(settled.outcome, Found)
    assert settled.lookup.attempts == 2 == calls(providers, lookup)
    assert providers.stats()["token_requests"] == 2


def test_many_lookups_with_a_refused_access_token_share_the_new_one(providers: Simulator, make: Engines) -> None:
    engine = make("afterpay", concurrency=32)
    run(engine, lookups("afterpay", "visa"))
    # One of them has the token revoked; all others find out by a refusal of their own.
    steps = run(engine, lookups("afterpay", "unauthorized-1", *["visa"] * 31))
    assert {type(step.outcome) for step in steps if isinstance(step, Settled)} == {Found}
    assert len(steps) == 32
    assert providers.stats()["token_requests"] == 2


def test_a_refused_request_for_an_access_token_is_authentication(providers: Simulator, make: Engines) -> None:
    providers.behave(token_endpoint="refused")
    (step,) = run(make("afterpay"), lookups("afterpay", "visa"))
    assert isinstance(step, Settled)
    expected = Failure(Category.AUTHENTICATION, "The client secret is wrong.", code="invalid_client", http_status=400)
    assert step.outcome == expected
    assert providers.stats()["requests"]["afterpay"] == 0


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
