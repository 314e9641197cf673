"""Attempts in memory: how many calls a lookup makes, when it comes back, and with which access token."""

import dataclasses
import logging
from collections.abc import Callable
from datetime import timedelta

import pytest

from cardtoken.contract import Category, Lane, TokenRecord
from tasks.lookups.lookup import Blocked, Lookup, NotStarted, Postponed, Reason, Settled
from tasks.lookups.outcomes import Failure, Found, NotFound, Outcome
from tasks.providers.provider import Account
from tests.unit.in_memory import InMemory

FOUND: Outcome = Found(TokenRecord(value="t"))
DOWN = Failure(Category.UNAVAILABLE, "down", http_status=503)
LATE = Failure(Category.TIMEOUT, "no answer in time")
REFUSED = Failure(Category.AUTHENTICATION, "unauthorized", http_status=401)
UNREADABLE = Failure(Category.PROTOCOL, "no JSON", http_status=200, may_pass=True)
LIMITED = Failure(Category.RATE_LIMITED, "too many", http_status=429, retry_after=7)
OVERLOADED = Failure(Category.UNAVAILABLE, "overloaded", http_status=503, retry_after=7)


def new(memory: InMemory, reference: str = "visa", **fields: object) -> Lookup:
    (lookup,) = memory.lookups(reference, **fields)
    return lookup


# --- how many calls


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
@pytest.mark.parametrize("failure", [DOWN, LATE])
def test_no_more_calls_are_made_than_allowed(failure: Failure, max_attempts: int) -> None:
    memory = InMemory(max_attempts=max_attempts)
    memory.provider.script("visa", failure)
    settled = memory.settle(new(memory))
    assert settled.outcome == failure
    assert settled.lookup.attempts == max_attempts == len(memory.provider.calls)


def test_a_failure_that_passes_ends_as_found_after_the_attempts_that_it_took() -> None:
    memory = InMemory()
    memory.provider.script("visa", DOWN, DOWN, FOUND)
    step = memory.one("visa")
    assert isinstance(step, Postponed)
    assert (step.lookup.attempts, step.why) == (1, DOWN)
    assert step.lookup.not_before == memory.clock.now() + timedelta(seconds=1)
    settled = memory.settle(step.lookup)
    assert settled.outcome == FOUND
    assert settled.lookup.attempts == 3 == len(memory.provider.calls)


@pytest.mark.parametrize("outcome", [NotFound(), Failure(Category.REJECTED, "no"), Failure(Category.PROTOCOL, "418")])
def test_an_outcome_that_will_not_pass_is_settled_by_one_call(outcome: Outcome) -> None:
    memory = InMemory()
    memory.provider.script("visa", outcome)
    assert memory.settle(new(memory)).outcome == outcome
    assert len(memory.provider.calls) == 1


def test_an_unreadable_answer_is_retried_a_few_times() -> None:
    memory = InMemory(max_attempts=50)
    memory.provider.script("visa", UNREADABLE)
    settled = memory.settle(new(memory))
    assert settled.outcome == UNREADABLE
    assert settled.lookup.attempts == 3 == len(memory.provider.calls)


def test_a_not_found_within_the_grace_is_retried() -> None:
    memory = InMemory(not_found_grace=60)
    memory.provider.script("visa", NotFound())
    lookup = new(memory)
    (step,) = memory.run([lookup])
    assert isinstance(step, Postponed)
    assert step.why == NotFound()
    memory.clock.advance(60)
    settled = memory.settle(step.lookup)
    assert (settled.outcome, settled.lookup.attempts) == (NotFound(), 2)


# --- when it comes back


@pytest.mark.parametrize("failure", [LIMITED, OVERLOADED])
def test_a_postponed_lookup_is_not_due_before_the_provider_said(failure: Failure) -> None:
    memory = InMemory()
    memory.provider.script("visa", failure)
    step = memory.one("visa")
    assert isinstance(step, Postponed)
    assert step.lookup.not_before is not None
    assert step.lookup.not_before >= memory.clock.now() + timedelta(seconds=7)
    assert memory.circuits.requests == [("default", failure.category, 7, False)]


@pytest.mark.parametrize(("deadline", "expected"), [(60, Postponed), (5, Settled)])
def test_an_interactive_lookup_waits_for_a_pause_that_ends_before_its_deadline(deadline: float, expected: type) -> None:
    memory = InMemory()
    memory.circuits.leave_alone("opay", "default", Category.RATE_LIMITED, 7, trial=False)
    memory.clock.advance(7)
    memory.provider.script("visa", LIMITED)
    step = memory.one("visa", Lane.INTERACTIVE, deadline=memory.ahead(deadline))
    assert isinstance(step, expected)
    assert memory.circuits.requests[-1] == ("default", Category.RATE_LIMITED, 7, True)


def test_a_lookup_whose_trial_failed_lets_another_make_the_next() -> None:
    memory = InMemory()
    for _ in range(20):
        memory.circuits.record("opay", "default", healthy=False)
    memory.clock.advance(memory.admission.seconds_until_trial() or 0)
    memory.provider.script("visa", DOWN)
    step = memory.one("visa")
    assert isinstance(step, Postponed)
    open_for = memory.admission.seconds_until_trial()
    assert open_for == 2
    assert step.lookup.not_before == memory.clock.now() + timedelta(seconds=2 * open_for + 1)


def test_a_circuit_that_opens_while_a_lookup_waits_for_a_thread_stops_its_call() -> None:
    memory = InMemory(concurrency=1)

    def open_circuit() -> Outcome:
        memory.circuits.leave_alone("opay", "default", Category.UNAVAILABLE, 7, trial=False)
        return FOUND

    memory.provider.script("first", open_circuit)
    first, *others = memory.run(memory.lookups("first", "second", "third"))
    assert isinstance(first, Settled)
    assert [(type(step), getattr(step, "reason", None)) for step in others] == [(Blocked, Reason.RETRY_AFTER)] * 2
    assert memory.provider.calls == ["first"]


def test_a_timeout_by_the_lookups_own_deadline_does_not_count_against_the_provider() -> None:
    memory = InMemory()

    def hang(seconds: float) -> Callable[[], Outcome]:
        def answer() -> Outcome:
            memory.clock.advance(seconds)
            return LATE

        return answer

    memory.provider.script("short", hang(0.4))
    assert isinstance(memory.one("short", deadline=memory.ahead(0.4)), Settled)
    assert memory.circuits.recorded == []
    memory.provider.script("long", hang(5))
    memory.one("long", deadline=memory.ahead(60))
    assert memory.circuits.recorded == [("default", False)]


def test_no_call_is_given_longer_than_its_lookup_or_the_timeout() -> None:
    memory = InMemory(call_timeout=5)
    memory.one("visa", deadline=memory.ahead(0.4))
    memory.one("visa", deadline=memory.ahead(60))
    assert memory.provider.until == [0.4, 5.0]


def test_a_shortage_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    memory = InMemory()
    memory.provider.script("visa", Failure(Category.UNAVAILABLE, "no file descriptor is left", local=True))
    for _ in range(3):
        memory.one("visa")
    memory.clock.advance(61)
    memory.one("visa")
    assert caplog.messages == ["calls to opay go back uncharged: no file descriptor is left"] * 2


# --- access tokens


def test_a_refused_access_token_is_renewed_once() -> None:
    memory = InMemory(access_tokens=True)
    memory.provider.script("visa", REFUSED, FOUND)
    settled = memory.settle(new(memory))
    assert (settled.outcome, settled.lookup.attempts) == (FOUND, 2)
    assert memory.provider.token_requests == 2


def test_access_that_stays_refused_is_called_for_exactly_twice() -> None:
    memory = InMemory(access_tokens=True)
    memory.provider.script("visa", REFUSED)
    settled = memory.settle(new(memory))
    assert settled.outcome == REFUSED
    assert settled.lookup.attempts == 2 == len(memory.provider.calls)


@pytest.mark.parametrize(("before", "allowed"), [(0, 1), (1, 2)])
def test_the_repeat_with_a_new_access_token_counts_as_an_attempt(before: int, allowed: int) -> None:
    memory = InMemory(access_tokens=True, max_attempts=allowed)
    memory.provider.script("visa", REFUSED)
    settled = memory.settle(dataclasses.replace(new(memory), attempts=before))
    assert settled.outcome == REFUSED
    assert settled.lookup.attempts == allowed
    assert len(memory.provider.calls) == 1
    # The token is forgotten all the same: the next lookup must not fail because of it.
    memory.one("amex")
    assert memory.provider.token_requests == 2


def test_an_attempt_takes_no_longer_than_its_timeout_the_access_token_included() -> None:
    memory = InMemory(access_tokens=True, call_timeout=1)
    memory.provider.on_token_request = lambda: memory.clock.advance(0.7)
    memory.one("visa")
    assert memory.provider.until == [None, 1.0]


def test_a_worker_that_stops_does_not_repeat_a_call_with_a_new_access_token() -> None:
    memory = InMemory(access_tokens=True)

    def stop() -> Outcome:
        memory.stopping.set()
        return REFUSED

    memory.provider.script("visa", stop)
    step = memory.one("visa")
    assert isinstance(step, NotStarted)
    assert step.lookup.attempts == 1 == len(memory.provider.calls)


# --- keys that are replaced


def accounts(**rates: float) -> dict[str, Account]:
    """Accounts that differ in something from those that a worker begins with."""
    return {name: Account(rate_limit=f"{rate:g}/s") for name, rate in rates.items()}


@pytest.mark.parametrize("access_tokens", [False, True])
def test_a_call_whose_key_was_replaced_meanwhile_is_made_again_with_the_new_one(access_tokens: bool) -> None:
    memory = InMemory(access_tokens=access_tokens)

    def replace() -> Outcome:
        memory.attempts.replace(accounts(default=1))
        return REFUSED

    memory.provider.script("visa", replace, FOUND)
    settled = memory.settle(new(memory))
    assert (settled.outcome, settled.lookup.attempts) == (FOUND, 2)
    assert memory.refreshes == 0
    assert len(memory.provider.calls) == 2


def test_a_refused_key_is_looked_for_and_the_call_made_again_if_there_is_a_newer_one() -> None:
    memory = InMemory()
    memory.on_refresh = lambda: memory.attempts.replace(accounts(default=1))
    memory.provider.script("visa", REFUSED, FOUND)
    settled = memory.settle(new(memory))
    assert (settled.outcome, settled.lookup.attempts, memory.refreshes) == (FOUND, 2, 1)


def test_a_refused_key_without_a_newer_one_costs_one_call() -> None:
    memory = InMemory()
    memory.provider.script("visa", REFUSED)
    settled = memory.settle(new(memory))
    assert (settled.outcome, settled.lookup.attempts, memory.refreshes) == (REFUSED, 1, 1)


def test_keys_that_are_replaced_again_and_again_cost_two_calls() -> None:
    memory = InMemory()
    rates = iter(range(1, 9))
    memory.on_refresh = lambda: memory.attempts.replace(accounts(default=next(rates)))
    memory.provider.script("visa", REFUSED)
    settled = memory.settle(new(memory))
    assert settled.lookup.attempts == 2 == len(memory.provider.calls)


def test_a_call_with_a_newer_key_is_not_made_beyond_the_attempts_allowed() -> None:
    memory = InMemory(max_attempts=1)
    memory.on_refresh = lambda: memory.attempts.replace(accounts(default=1))
    memory.provider.script("visa", REFUSED)
    settled = memory.settle(new(memory))
    assert (settled.outcome, settled.lookup.attempts) == (REFUSED, 1)


def test_the_access_token_of_an_account_that_changed_is_dropped_and_no_other() -> None:
    memory = InMemory(access_tokens=True, accounts=("default", "other"))
    for account in ("default", "other"):
        memory.one("visa", account=account)
    assert memory.provider.token_requests == 2
    memory.attempts.replace({"default": Account(), **accounts(other=1)})
    memory.one("visa", account="default")
    assert memory.provider.token_requests == 2
    memory.one("visa", account="other")
    assert memory.provider.token_requests == 3


def test_a_call_of_an_account_that_is_removed_ends_and_the_next_lookup_of_it_is_not_made() -> None:
    memory = InMemory(accounts=("default", "other"))

    def remove() -> Outcome:
        memory.attempts.replace({"default": Account()})
        return FOUND

    memory.provider.script("visa", remove)
    step = memory.one("visa", account="other")
    assert isinstance(step, Settled)
    assert step.outcome == FOUND
    step = memory.one("amex", account="other")
    assert isinstance(step, Settled)
    assert step.outcome == Failure(Category.INVALID_REQUEST, "account: there is no such account")
    memory.attempts.replace({"default": Account(), "new": Account()})
    step = memory.one("amex", account="new")
    assert isinstance(step, Settled)
    assert isinstance(step.outcome, Found)


def test_a_lookup_shows_nothing_of_itself_in_an_unexpected_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tasks")
    memory = InMemory(access_tokens=True)

    def broken() -> Outcome:
        raise ValueError("OPAY_TOKEN_secret")

    memory.provider.script("OPAY_TOKEN_secret", broken)
    step = memory.one("OPAY_TOKEN_secret", lookup_id="order-OPAY_TOKEN_secret")
    assert isinstance(step, Settled)
    assert "OPAY_TOKEN_secret" not in caplog.text
    assert "lookup ****cret ended in ValueError" in caplog.text
