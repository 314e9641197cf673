"""Attempts at both providers: how many calls a lookup makes, when it comes back, and with which access token."""

import dataclasses
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
import redis

from cardtoken.contract import Category
from sandbox.redis_server import RedisServer
from sandbox.service import Simulator
from tasks.http.client import HttpClient
from tasks.lookups.lookup import Lookup, NotStarted, Postponed, Settled
from tasks.lookups.outcomes import Failure, Found, NotFound
from tests.calls import Engines, http_client, lookups, run, sent, settle


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


class StopAfter(threading.Event):
    """Set once it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def is_set(self) -> bool:
        self._looks -= 1
        return self._looks < 0


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


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
@pytest.mark.parametrize("scenario", ["unavailable-always", "timeout-always"])
def test_no_more_calls_are_made_than_allowed(
    providers: Simulator, make: Engines, name: str, scenario: str, max_attempts: int
) -> None:
    (lookup,) = lookups(name, scenario)
    settled = settle(make(name, max_attempts=max_attempts), lookup)
    assert isinstance(settled.outcome, Failure)
    assert settled.lookup.attempts == max_attempts
    assert calls(providers, lookup) == max_attempts


def test_a_passing_failure_is_retried_until_the_card_is_found(providers: Simulator, make: Engines, name: str) -> None:
    (lookup,) = lookups(name, "unavailable-2")
    (step,) = run(make(name), [lookup])
    assert isinstance(step, Postponed)
    assert (step.lookup.attempts, str(step.why).split()[0]) == (1, "unavailable")
    assert step.lookup.not_before is not None
    settled = settle(make(name), step.lookup)
    assert isinstance(settled.outcome, Found)
    assert settled.lookup.attempts == 3 == calls(providers, lookup)


def test_a_postponed_lookup_is_not_due_before_the_provider_said(make: Engines, name: str) -> None:
    before = datetime.now(UTC)
    (step,) = run(make(name), lookups(name, "rate-limited-1-7"))
    assert isinstance(step, Postponed)
    assert step.lookup.not_before is not None
    assert step.lookup.not_before >= before + timedelta(seconds=7)


def test_a_lasting_failure_is_asked_once(providers: Simulator, make: Engines, name: str) -> None:
    asked = lookups(name, "not-found", "status-418", "redirect", "wrong-token")
    outcomes = [step.outcome for step in run(make(name), asked) if isinstance(step, Settled)]
    assert [type(outcome) for outcome in outcomes] == [NotFound, Failure, Failure, Failure]
    # An answer about another token may be the connection's fault: OPay, which names the token, is asked on a new one.
    assert [calls(providers, lookup) for lookup in asked] == [1, 1, 1, 2 if name == "opay" else 1]


@pytest.mark.parametrize("scenario", ["malformed", "empty"])
def test_an_answer_that_cannot_be_read_is_asked_for_a_few_times(
    providers: Simulator, make: Engines, name: str, scenario: str
) -> None:
    (lookup,) = lookups(name, scenario)
    settled = settle(make(name, max_attempts=50), lookup)
    assert isinstance(settled.outcome, Failure)
    assert settled.outcome.category is Category.PROTOCOL
    assert settled.lookup.attempts == 3 == calls(providers, lookup)


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


# --- access tokens


def test_a_refused_access_token_is_renewed_once(providers: Simulator, make: Engines) -> None:
    engine = make("afterpay")
    (lookup,) = lookups("afterpay", "unauthorized-1")
    settled = settle(engine, lookup)
    assert isinstance(settled.outcome, Found)
    assert settled.lookup.attempts == 2 == calls(providers, lookup)
    assert providers.stats()["token_requests"] == 2


@pytest.mark.parametrize("scenario", ["unauthorized-always", "unauthorized-3"])
def test_access_that_stays_refused_is_asked_for_exactly_twice(
    providers: Simulator, make: Engines, scenario: str
) -> None:
    (lookup,) = lookups("afterpay", scenario)
    settled = settle(make("afterpay"), lookup)
    assert isinstance(settled.outcome, Failure)
    assert (settled.outcome.category, settled.outcome.http_status) == (Category.AUTHENTICATION, 401)
    assert settled.lookup.attempts == 2 == calls(providers, lookup)


@pytest.mark.parametrize(("before", "allowed"), [(0, 1), (1, 2)])
def test_the_repeat_with_a_new_access_token_counts_as_an_attempt(
    providers: Simulator, make: Engines, before: int, allowed: int
) -> None:
    engine = make("afterpay", max_attempts=allowed)
    (lookup,) = lookups("afterpay", "unauthorized-1")
    settled = settle(engine, dataclasses.replace(lookup, attempts=before))
    assert isinstance(settled.outcome, Failure)
    assert settled.outcome.category is Category.AUTHENTICATION
    assert settled.lookup.attempts == allowed
    assert calls(providers, lookup) == 1
    # The token is forgotten all the same: the next lookup must not fail for it.
    assert isinstance(settle(engine, lookups("afterpay", "visa")[0]).outcome, Found)


def test_an_attempt_takes_no_longer_than_its_total_the_access_token_included(
    providers: Simulator, redis_server: RedisServer
) -> None:
    client = redis.Redis.from_url(redis_server.url)
    with http_client(total=1) as http, client, Engines(providers, http, client) as engines:
        providers.behave(latency=0.7)  # of the access token, and of the call
        began = monotonic()
        (step,) = run(engines("afterpay", max_attempts=1), lookups("afterpay", "visa"))
        assert monotonic() - began < 1.3
        assert isinstance(step, Settled)
        assert str(step.outcome) == "timeout"


def test_a_worker_that_ends_does_not_repeat_a_call_with_a_new_access_token(providers: Simulator, make: Engines) -> None:
    engine = make("afterpay")
    engine._attempts._stopping = StopAfter(0)  # as if the worker stopped during the first call
    (lookup,) = lookups("afterpay", "unauthorized-1")
    (step,) = run(engine, [lookup])
    assert isinstance(step, NotStarted)
    assert step.lookup.attempts == 1 == calls(providers, lookup)


def test_many_lookups_with_a_refused_access_token_share_the_new_one(providers: Simulator, make: Engines) -> None:
    engine = make("afterpay", concurrency=32)
    run(engine, lookups("afterpay", "visa"))
    # One of them has the token revoked; all others find out by a refusal of their own.
    steps = run(engine, lookups("afterpay", "unauthorized-1", *["visa"] * 31))
    assert {type(step.outcome) for step in steps if isinstance(step, Settled)} == {Found}
    assert len(steps) == 32
    assert providers.stats()["token_requests"] == 2
