"""The engine in memory: lists side by side, each lookup for itself, and the trial of an open circuit."""

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardtoken.contract import Category, Lane, TokenRecord
from sandbox.waiting import until
from tasks.lookups.lookup import Blocked, NotStarted, Postponed, Reason, Settled
from tasks.lookups.outcomes import Failure, Found, Outcome
from tests.unit.in_memory import TASK, InMemory

FOUND: Outcome = Found(TokenRecord(value="t"))
DOWN = Failure(Category.UNAVAILABLE, "down", http_status=503)
HUNG = Failure(Category.TIMEOUT, "no answer in time")
NO_FILES = Failure(Category.UNAVAILABLE, "no file descriptor is left", local=True)


class Gate:
    """Calls that wait until the gate is opened, and how many do."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._changed = threading.Condition()
        self._waiting = 0

    def found(self) -> Outcome:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        assert self._opened.wait(10)
        return FOUND

    def wait_for(self, calls: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting >= calls, 10)

    def open(self) -> None:
        self._opened.set()


# --- side by side


def test_a_list_runs_side_by_side_within_the_limit() -> None:
    memory, gate = InMemory(concurrency=8), Gate()
    memory.provider.script("visa", gate.found)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(memory.run, memory.lookups(*["visa"] * 40))
        gate.wait_for(8)
        gate.open()
        steps = running.result()
    assert {type(step.outcome) for step in steps if isinstance(step, Settled)} == {Found}
    assert (memory.provider.most_at_once, len(memory.provider.calls)) == (8, 40)


def test_a_fast_lookup_does_not_wait_for_a_slow_one() -> None:
    memory, gate = InMemory(), Gate()
    memory.provider.script("slow", gate.found)
    batches = memory.engine.run(memory.lookups("slow", "fast", "fast"))
    early = [step.lookup.index for step in next(batches)]
    while len(early) < 2:
        early += [step.lookup.index for step in next(batches)]
    assert sorted(early) == [1, 2]
    gate.open()
    assert [step.lookup.index for batch in batches for step in batch] == [0]


def test_a_short_list_does_not_wait_for_a_long_one() -> None:
    memory, gate, rest = InMemory(concurrency=4), Gate(), Gate()
    memory.provider.script("long", *[gate.found] * 4, rest.found)
    with ThreadPoolExecutor(2) as threads:
        long = threads.submit(memory.run, memory.lookups(*["long"] * 80))
        gate.wait_for(4)
        short = threads.submit(memory.run, memory.lookups(*["short"] * 4))
        until(lambda: True if len(memory.threads._waiting[Lane.BULK]) == 4 else None)
        gate.open()
        assert len(short.result()) == 4
        assert not long.done()
        rest.open()
        assert len(long.result()) == 80
    assert memory.provider.most_at_once == 4, "both together keep to the limit"


def test_an_empty_list_has_no_steps() -> None:
    assert list(InMemory().engine.run([])) == []


def test_a_worker_that_stops_begins_no_further_call() -> None:
    memory, gate = InMemory(concurrency=2), Gate()
    memory.provider.script("visa", gate.found)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(memory.run, memory.lookups(*["visa"] * 5))
        gate.wait_for(2)
        memory.stopping.set()
        gate.open()
        steps = running.result()
    assert [type(step) for step in steps] == [Settled] * 2 + [NotStarted] * 3
    assert {step.lookup.attempts for step in steps[2:]} == {0}
    assert len(memory.provider.calls) == 2
    (single,) = memory.run(memory.lookups("visa"))
    assert isinstance(single, NotStarted)


# --- each for itself


def test_an_unexpected_error_is_one_lookups_and_not_its_lists(caplog: pytest.LogCaptureFixture) -> None:
    memory = InMemory()

    def broken() -> Outcome:
        raise RuntimeError("confidential amex")

    memory.provider.script("amex", broken)
    caplog.set_level(logging.DEBUG, "tasks")
    steps = memory.run(memory.lookups("visa", "amex", "visa"))
    outcomes = [step.outcome for step in steps if isinstance(step, Settled)]
    assert outcomes[1] == Failure(Category.INTERNAL, "an unexpected error in this service")
    assert [type(outcome) for outcome in outcomes] == [Found, Failure, Found]
    [line] = caplog.messages
    assert re.fullmatch(rf"lookup {TASK}:1 ended in RuntimeError at tasks/testing/provider\.py:\d+", line)
    assert "confidential" not in caplog.text


@pytest.mark.parametrize("access_tokens", [False, True])
def test_a_lookup_that_cannot_be_called_is_settled_without_a_call(access_tokens: bool) -> None:
    memory = InMemory(access_tokens=access_tokens)
    asked = memory.read(
        {"opay_token": "visa", "deadline": memory.ahead(-1)},
        {"opay_token": "visa", "requested_at": memory.ahead(-3600)},
        {"opay_token": "visa", "account": "nobody"},
        {"opay_token": "visa", "surprise": 1},
        {"opay_token": 17},
        "no object",
    )
    steps = memory.run(asked)
    outcomes = [step.outcome for step in steps if isinstance(step, Settled)]
    expected = [Category.EXPIRED] * 2 + [Category.INVALID_REQUEST] * 4
    assert [outcome.category for outcome in outcomes if isinstance(outcome, Failure)] == expected
    assert {step.lookup.attempts for step in steps} == {0}
    assert (memory.provider.calls, memory.provider.token_requests) == ([], 0)


# --- circuits


def down(memory: InMemory, count: int = 20) -> None:
    """Open the circuit by as many failures."""
    memory.provider.script("down", DOWN)
    memory.run(memory.lookups(*["down"] * count))
    assert memory.admission.seconds_until_trial() is not None


def wait_for_trial(memory: InMemory) -> None:
    memory.clock.advance(memory.admission.seconds_until_trial() or 0)


def test_an_open_circuit_blocks_a_bulk_list_and_settles_an_interactive_one() -> None:
    memory = InMemory()
    down(memory)
    calls = len(memory.provider.calls)
    bulk = memory.run(memory.lookups("visa", "visa"))
    assert [(type(step), getattr(step, "reason", None)) for step in bulk] == [(Blocked, Reason.CIRCUIT)] * 2
    (step,) = memory.run(memory.lookups("visa"), Lane.INTERACTIVE)
    assert isinstance(step, Settled)
    words = "the provider is down, and is not asked until it is well again"
    assert step.outcome == Failure(Category.UNAVAILABLE, words)
    assert len(memory.provider.calls) == calls


def test_one_lookup_makes_the_trial_and_the_others_follow_when_it_succeeds() -> None:
    memory, gate = InMemory(), Gate()
    down(memory)
    calls = len(memory.provider.calls)
    wait_for_trial(memory)
    memory.provider.script("visa", gate.found)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(memory.run, memory.lookups(*["visa"] * 5))
        gate.wait_for(1)
        assert memory.circuits.acquire("opay", "default").trial is False, "the trial is given away"
        assert len(memory.provider.calls) == calls + 1
        gate.open()
        assert {type(step) for step in running.result()} == {Settled}
    assert memory.circuits.trials == [("default", True)]


def test_a_circuit_is_tried_with_a_lookup_that_can_be_called() -> None:
    memory = InMemory()
    down(memory)
    wait_for_trial(memory)
    good, expired = memory.read({"opay_token": "visa"}, {"opay_token": "visa", "deadline": memory.ahead(-1)})
    steps = memory.run([good.attempted(), expired])
    assert [type(step.outcome) for step in steps if isinstance(step, Settled)] == [Found, Failure]
    assert memory.admission.seconds_until_trial() is None


def test_the_lookup_with_the_fewest_attempts_makes_the_trial() -> None:
    memory = InMemory()
    down(memory)
    wait_for_trial(memory)
    memory.provider.script("fresh", DOWN)
    used, fresh = memory.lookups("used", "fresh")
    steps = memory.run([used.attempted(), fresh])
    assert memory.provider.calls[-1] == "fresh"
    assert [type(step) for step in steps] == [Blocked, Postponed]
    assert memory.circuits.trials == [("default", False)]


def test_an_unexpected_error_in_a_trial_leaves_it_to_another() -> None:
    memory = InMemory()
    down(memory)
    wait_for_trial(memory)

    def broken() -> Outcome:
        raise RuntimeError

    memory.provider.script("broken", broken)
    assert isinstance(memory.one("broken"), Settled)
    assert memory.circuits.trials == [("default", None)]


def test_references_that_always_fail_open_no_circuit_however_often_they_are_called() -> None:
    memory = InMemory(max_attempts=100)
    memory.provider.script("down", DOWN)
    asked = memory.lookups(*["down"] * 19)
    for _ in range(5):
        asked = [step.lookup for step in memory.run(asked)]
    assert {lookup.attempts for lookup in asked} == {5}
    assert isinstance(memory.one("visa"), Settled)


def test_references_that_hang_while_others_are_answered_open_no_circuit() -> None:
    count = 40
    memory, all_hang, all_answered = InMemory(concurrency=64), threading.Barrier(count + 1), threading.Event()

    def hang() -> Outcome:
        all_hang.wait(10)
        assert all_answered.wait(10)
        return HUNG

    def last() -> Outcome:
        memory.clock.advance(1)
        return FOUND

    memory.provider.script("hang", hang)
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(memory.run, memory.lookups(*["hang"] * count))
        all_hang.wait(10)
        memory.clock.advance(0.1)
        memory.provider.script("visa", last)
        memory.run(memory.lookups("visa"))
        all_answered.set()
        assert {type(step) for step in hanging.result()} == {Postponed}
    assert memory.admission.seconds_until_trial() is None


def test_a_provider_that_hangs_for_all_opens_its_circuit() -> None:
    memory = InMemory(concurrency=64)
    memory.run(memory.lookups(*["visa"] * 20))
    memory.provider.script("hang", HUNG)
    memory.run(memory.lookups(*["hang"] * 40))
    assert memory.admission.seconds_until_trial() is not None


# --- rate limits


def test_lookups_wait_for_permits_and_the_rest_goes_back_when_others_have_them_all() -> None:
    memory = InMemory()
    memory.limits.permits["opay"] = 3
    memory.limits.wait = 5.0
    steps = memory.run(memory.lookups(*["visa"] * 5))
    assert [type(step) for step in steps] == [Settled] * 3 + [Blocked] * 2
    assert [step.reason for step in steps if isinstance(step, Blocked)] == [Reason.RATE_LIMIT] * 2
    assert memory.limits.wanted[0] == 5, "a list asks for all that it needs at once"


def test_a_list_asks_for_permits_again_after_the_wait() -> None:
    memory = InMemory()
    memory.limits.permits["opay"] = 1
    memory.limits.wait = 0.02
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(memory.run, memory.lookups("visa", "visa"))
        until(lambda: True if len(memory.limits.wanted) > 1 else None)
        memory.limits.permits["opay"] += 1
        assert {type(step) for step in running.result()} == {Settled}


# --- a machine that lacks something


def test_a_call_that_this_worker_could_not_make_is_not_charged() -> None:
    memory = InMemory(max_attempts=1)
    memory.provider.script("visa", NO_FILES)
    asked = memory.lookups(*["visa"] * 40)
    steps = memory.run(asked)
    assert {(type(step), getattr(step, "reason", None)) for step in steps} == {(Blocked, Reason.WORKER)}
    assert [step.lookup for step in steps] == asked
    assert memory.circuits.recorded == [], "it says nothing about the provider"
    memory.provider.script("visa", FOUND)
    assert {type(step.outcome) for step in memory.run(asked) if isinstance(step, Settled)} == {Found}


def test_a_shortage_that_outlasts_the_deadline_is_a_failure_of_this_service() -> None:
    memory = InMemory()
    memory.provider.script("visa", NO_FILES)
    step = memory.one("visa", deadline=memory.ahead(0.5))
    assert isinstance(step, Settled)
    assert isinstance(step.outcome, Failure)
    assert (step.outcome.category, step.lookup.attempts) == (Category.INTERNAL, 0)
    assert step.outcome.message == "no file descriptor is left"


def test_a_trial_that_this_worker_could_not_make_is_left_to_another() -> None:
    memory = InMemory()
    down(memory)
    wait_for_trial(memory)
    memory.provider.script("visa", NO_FILES, FOUND)
    blocked = memory.one("visa")
    assert isinstance(blocked, Blocked)
    assert memory.circuits.trials == [("default", None)]
    wait_for_trial(memory)
    (step,) = memory.run([blocked.lookup])
    assert isinstance(step, Settled)
    assert isinstance(step.outcome, Found)
