"""Which calls tell what about a provider: whose failures count, and by which answers it asks to be left alone."""

from datetime import timedelta
from math import inf

import pytest

from cardtoken.contract import Category, Lane, TokenRecord
from tasks.calls.admission import Admission, CallNow, CompletedCall, PutBack, WaitFor
from tasks.lookups.lookup import Lookup, Reason
from tasks.lookups.outcomes import Failure, Found, NotFound, Outcome
from tasks.testing.admission import MemoryCircuits, MemoryRateLimiter
from tasks.testing.clock import FakeClock

WELL: Outcome = Found(TokenRecord(value="t"))
DOWN = Failure(Category.UNAVAILABLE, "down")
HUNG = Failure(Category.TIMEOUT, "no answer")


PROVIDER = "p"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def circuits(clock: FakeClock) -> MemoryCircuits:
    return MemoryCircuits(clock.monotonic)


@pytest.fixture
def limits() -> MemoryRateLimiter:
    return MemoryRateLimiter()


@pytest.fixture
def admission(clock: FakeClock, circuits: MemoryCircuits, limits: MemoryRateLimiter) -> Admission:
    return Admission(PROVIDER, ["a", "b"], circuits, limits, monotonic=clock.monotonic)


def counted(circuits: MemoryCircuits) -> list[bool]:
    return [healthy for _, healthy in circuits.recorded]


def call(outcome: Outcome, began: float = 0.0, took: float = 0.1, **more: bool) -> CompletedCall:
    return CompletedCall(outcome, began, began + took, **more)


def test_a_lookup_that_fails_again_and_again_counts_once(admission: Admission, circuits: MemoryCircuits) -> None:
    admission.record("a", call(DOWN))
    for _ in range(40):
        admission.record("a", call(DOWN, repeated=True))
        admission.record("a", call(HUNG, took=10, repeated=True))
    assert counted(circuits) == [False]


def test_a_lookup_that_comes_through_in_the_end_counts_as_any_other(
    admission: Admission, circuits: MemoryCircuits
) -> None:
    admission.record("a", call(WELL, repeated=True))
    assert counted(circuits) == [True]


def test_a_reference_that_hangs_while_later_calls_are_answered_says_nothing_of_the_provider(
    admission: Admission, circuits: MemoryCircuits
) -> None:
    admission.record("a", call(WELL, began=1.0))
    admission.record("a", call(HUNG, began=0.5, took=10))
    assert counted(circuits) == [True]


def test_a_provider_that_hangs_from_some_moment_on_counts(admission: Admission, circuits: MemoryCircuits) -> None:
    admission.record("a", call(WELL, began=1.0))
    admission.record("a", call(HUNG, began=1.5, took=10))
    # Of another account it is known no better for that.
    admission.record("b", call(HUNG, began=0.5, took=10))
    assert counted(circuits) == [True, False, False]


def test_of_quick_calls_it_is_chance_which_ends_first(admission: Admission, circuits: MemoryCircuits) -> None:
    admission.record("a", call(WELL, began=1.0))
    admission.record("a", call(DOWN, began=0.95, took=0.1))
    assert counted(circuits) == [True, False]


@pytest.mark.parametrize(
    "outcome",
    [
        Failure(Category.UNAVAILABLE, "no file descriptor", local=True),
        Failure(Category.UNAVAILABLE, "no file descriptor", local=True, retry_after=60),
        Failure(Category.PROTOCOL, "no JSON", may_pass=True),
    ],
)
def test_a_failure_that_says_nothing_about_the_provider_is_not_counted(
    admission: Admission, circuits: MemoryCircuits, outcome: Failure
) -> None:
    admission.record("a", call(outcome))
    assert (circuits.recorded, circuits.requests) == ([], [])


@pytest.mark.parametrize(
    ("outcome", "healthy"),
    [
        (WELL, True),
        (NotFound(), True),
        (Failure(Category.REJECTED, "no"), True),
        (DOWN, False),
        (Failure(Category.PROTOCOL, "default backend", may_pass=True), False),  # a gateway is there, and nothing behind
        (Failure(Category.UNAVAILABLE, "no file descriptor", local=True), None),
    ],
)
def test_a_trial_shows_whether_the_provider_is_back(
    admission: Admission, circuits: MemoryCircuits, outcome: Outcome, healthy: bool | None
) -> None:
    admission.record("a", call(outcome, trial=True, repeated=True))
    assert (circuits.trials, circuits.recorded) == ([("a", healthy)], [])


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [
        (Failure(Category.RATE_LIMITED, "429", retry_after=5), 5),
        (Failure(Category.RATE_LIMITED, "429"), 0),
        (Failure(Category.UNAVAILABLE, "503", retry_after=7.5), 7.5),
    ],
)
@pytest.mark.parametrize("trial", [False, True])
def test_a_provider_that_asks_for_it_is_left_alone(
    admission: Admission, circuits: MemoryCircuits, outcome: Failure, seconds: float, trial: bool
) -> None:
    circuit = admission.record("a", call(outcome, repeated=True, trial=trial))
    assert circuit.asked is outcome.category
    assert circuits.requests == [("a", outcome.category, seconds, trial)]
    assert (circuits.recorded, circuits.trials) == ([], [])


# --- the state of all accounts


def open_circuit(circuits: MemoryCircuits, account: str, seconds: float = 5) -> None:
    circuits.leave_alone(PROVIDER, account, Category.UNAVAILABLE, seconds, trial=False)


def test_a_provider_can_be_called_while_one_of_its_accounts_can(admission: Admission, circuits: MemoryCircuits) -> None:
    open_circuit(circuits, "a", 5)
    assert (admission.seconds_until_trial(), admission.blocks_all) == (None, False)
    open_circuit(circuits, "b", 9)
    assert (admission.seconds_until_trial(), admission.blocks_all) == (5, True)


def test_a_provider_without_accounts_is_not_waited_for(circuits: MemoryCircuits, limits: MemoryRateLimiter) -> None:
    assert Admission(PROVIDER, [], circuits, limits).seconds_until_trial() is None


def test_what_blocks_the_only_account_blocks_the_provider(circuits: MemoryCircuits, limits: MemoryRateLimiter) -> None:
    assert Admission(PROVIDER, ["a"], circuits, limits).blocks_all


# --- of one list


def lookup(account: str = "a", index: int = 0) -> Lookup:
    now = FakeClock().now()
    return Lookup(
        index=index,
        lookup_id=str(index),
        account=account,
        reply_to="default",
        requested_at=now,
        deadline=now + timedelta(hours=1),
        metadata={},
        sent={},
        request=None,
    )


def one() -> int:
    return 1


def test_an_open_circuit_puts_its_account_back_and_no_other(
    admission: Admission, circuits: MemoryCircuits, clock: FakeClock
) -> None:
    batch = admission.for_batch(Lane.BULK)
    for _ in range(20):
        circuits.record(PROVIDER, "a", healthy=False)
    assert batch.decide(lookup("a"), 0, one) == PutBack(1.0, Reason.CIRCUIT)
    assert batch.decide(lookup("b"), 0, one) == CallNow()
    open_circuit(circuits, "b")
    assert batch.decide(lookup("b"), 0, one) == PutBack(5.0, Reason.RETRY_AFTER, Category.UNAVAILABLE)
    clock.advance(1)
    assert admission.check_open("a") == PutBack(0.0, Reason.CIRCUIT)


def test_the_others_of_an_account_wait_for_its_trial(
    admission: Admission, circuits: MemoryCircuits, clock: FakeClock
) -> None:
    open_circuit(circuits, "a")
    clock.advance(5)
    batch = admission.for_batch(Lane.BULK)
    assert batch.decide(lookup(index=0), 0, one) == CallNow(trial=True)
    batch.begin_trial(lookup(index=1))
    assert batch.decide(lookup(index=0), 1, one) == WaitFor(inf)
    assert batch.decide(lookup("b"), 1, one) == CallNow()
    batch.finished(lookup(index=0))
    assert batch.decide(lookup(index=0), 1, one) == WaitFor(inf)
    circuits.report_trial(PROVIDER, "a", healthy=True)
    batch.finished(lookup(index=1))
    assert batch.decide(lookup(index=0), 0, one) == CallNow()


def test_a_bulk_list_makes_few_calls_after_a_circuit_was_closed_and_soon_any_number(
    admission: Admission, circuits: MemoryCircuits, clock: FakeClock
) -> None:
    open_circuit(circuits, "a")
    clock.advance(5)
    circuits.report_trial(PROVIDER, "a", healthy=True)
    bulk, interactive = admission.for_batch(Lane.BULK), admission.for_batch(Lane.INTERACTIVE)
    most = []
    for _ in range(4):
        most.append(next(n for n in range(100) if bulk.decide(lookup(), n, one) == WaitFor(inf)))
        clock.advance(0.5)
    assert most == [1, 2, 4, 8]
    assert interactive.decide(lookup(), 100, one) == CallNow()
    clock.advance(10)
    assert bulk.decide(lookup(), 10_000, one) == CallNow()


def test_each_call_waits_for_its_slot(admission: Admission, limits: MemoryRateLimiter, clock: FakeClock) -> None:
    limits.permits[PROVIDER], limits.spacing = 2, 0.3
    batch = admission.for_batch(Lane.BULK)
    assert batch.decide(lookup(), 0, lambda: 2) == CallNow()
    assert batch.decide(lookup(), 1, one) == WaitFor(0.3)
    clock.advance(0.3)
    assert batch.decide(lookup(), 1, one) == CallNow()
    assert limits.wanted == [2], "one reservation serves the list"


def test_a_list_without_a_permit_waits_for_a_while_and_goes_back_then(
    admission: Admission, limits: MemoryRateLimiter, clock: FakeClock
) -> None:
    limits.permits[PROVIDER], limits.wait = 0, 0.4
    batch = admission.for_batch(Lane.BULK)
    seen = []
    for _ in range(3):
        seen.append(batch.decide(lookup(), 0, one))
        clock.advance(0.4)
    assert seen == [WaitFor(0.4), WaitFor(0.4), PutBack(0.4, Reason.RATE_LIMIT)]
    limits.permits[PROVIDER] = 1
    assert batch.decide(lookup(), 0, one) == CallNow()
    # Its patience begins anew.
    assert batch.decide(lookup(), 0, one) == WaitFor(0.4)


def test_permits_are_asked_for_again_after_a_moment_at_least(admission: Admission, limits: MemoryRateLimiter) -> None:
    limits.permits[PROVIDER], limits.wait = 0, 0.0
    assert admission.for_batch(Lane.BULK).decide(lookup(), 0, one) == WaitFor(0.02)
