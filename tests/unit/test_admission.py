"""Which calls tell what about a provider: whose failures count, and by which answers it asks to be left alone."""

from typing import Any

import pytest

from cardtoken.contract import Category, TokenRecord
from tasks.calls.admission import Admission, Circuit, CompletedCall, Reservation
from tasks.lookups.outcomes import Failure, Found, NotFound, Outcome

WELL: Outcome = Found(TokenRecord(value="t"))
DOWN = Failure(Category.UNAVAILABLE, "down")
HUNG = Failure(Category.TIMEOUT, "no answer")


class NoLimits:
    def limits(self, provider: str) -> bool:
        return False

    def reserve(self, *_: Any) -> Reservation:
        raise AssertionError("there is no limit to ask")


class Told:
    """Circuits that keep what they are told."""

    def __init__(self) -> None:
        self.counted: list[bool] = []
        self.trials: list[bool | None] = []
        self.rests: list[tuple[Category, float, bool]] = []

    def acquire(self, *_: Any) -> Circuit:
        return Circuit()

    def known(self, *_: Any) -> Circuit:
        return Circuit()

    def closed_for(self, *_: Any) -> float | None:
        return None

    def record(self, provider: str, account: str, *, healthy: bool) -> None:
        self.counted.append(healthy)

    def report_trial(self, provider: str, account: str, *, healthy: bool | None) -> Circuit:
        self.trials.append(healthy)
        return Circuit()

    def leave_alone(self, provider: str, account: str, asked: Category, seconds: float, *, trial: bool) -> Circuit:
        self.rests.append((asked, seconds, trial))
        return Circuit(seconds, asked=asked)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def admission(told: Told) -> Admission:
    return Admission("p", ["a", "b"], told, NoLimits())


def call(outcome: Outcome, began: float = 0.0, took: float = 0.1, **more: bool) -> CompletedCall:
    return CompletedCall(outcome, began, began + took, **more)


def test_a_lookup_that_fails_again_and_again_counts_once(admission: Admission, told: Told) -> None:
    admission.record("a", call(DOWN))
    for _ in range(40):
        admission.record("a", call(DOWN, repeated=True))
        admission.record("a", call(HUNG, took=10, repeated=True))
    assert told.counted == [False]


def test_a_lookup_that_comes_through_in_the_end_counts_as_any_other(admission: Admission, told: Told) -> None:
    admission.record("a", call(WELL, repeated=True))
    assert told.counted == [True]


def test_a_reference_that_hangs_while_later_calls_are_answered_says_nothing_of_the_provider(
    admission: Admission, told: Told
) -> None:
    admission.record("a", call(WELL, began=1.0))
    admission.record("a", call(HUNG, began=0.5, took=10))
    assert told.counted == [True]


def test_a_provider_that_hangs_from_some_moment_on_counts(admission: Admission, told: Told) -> None:
    admission.record("a", call(WELL, began=1.0))
    admission.record("a", call(HUNG, began=1.5, took=10))
    # Of another account it is known no better for that.
    admission.record("b", call(HUNG, began=0.5, took=10))
    assert told.counted == [True, False, False]


def test_of_quick_calls_it_is_chance_which_ends_first(admission: Admission, told: Told) -> None:
    admission.record("a", call(WELL, began=1.0))
    admission.record("a", call(DOWN, began=0.95, took=0.1))
    assert told.counted == [True, False]


@pytest.mark.parametrize(
    "outcome",
    [
        Failure(Category.UNAVAILABLE, "no file descriptor", local=True),
        Failure(Category.UNAVAILABLE, "no file descriptor", local=True, retry_after=60),
        Failure(Category.PROTOCOL, "no JSON", may_pass=True),
    ],
)
def test_a_failure_that_says_nothing_about_the_provider_is_not_counted(
    admission: Admission, told: Told, outcome: Failure
) -> None:
    admission.record("a", call(outcome))
    assert (told.counted, told.rests) == ([], [])


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
    admission: Admission, told: Told, outcome: Outcome, healthy: bool | None
) -> None:
    admission.record("a", call(outcome, trial=True, repeated=True))
    assert (told.trials, told.counted) == ([healthy], [])


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
    admission: Admission, told: Told, outcome: Failure, seconds: float, trial: bool
) -> None:
    circuit = admission.record("a", call(outcome, repeated=True, trial=trial))
    assert circuit.asked is outcome.category
    assert told.rests == [(outcome.category, seconds, trial)]
    assert (told.counted, told.trials) == ([], [])
