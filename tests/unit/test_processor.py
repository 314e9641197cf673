"""The processor in memory: results as they settle, a retry for the rest, and nothing lost when something fails."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from cardtoken.contract import Category
from tasks.broker.delivery import Delivery
from tasks.broker.queue_limits import QueueLimits
from tasks.lookups.carried_state import RetryState
from tasks.lookups.outcomes import Failure, Found, NotFound, Outcome
from tasks.processor import Deferred, Finished, MessageProcessor, ProviderContext, Released, WorkerStoppingError
from tasks.telemetry.observer import Observer
from tasks.testing.broker import MemoryClaims
from tasks.testing.results import MemoryResults
from tests.unit.in_memory import READER, InMemory
from tests.unit.messages import opened

QUEUE = "lookup.opay.bulk"
INTERACTIVE = "lookup.opay.interactive"
DOWN = Failure(Category.UNAVAILABLE, "down", http_status=503)


class Processing:
    """A processor, and all that stands around it."""

    def __init__(self, *, accounts: tuple[str, ...] = ("default",)) -> None:
        self.memory = InMemory(accounts=accounts)
        self.claims = MemoryClaims()
        self.results = MemoryResults()
        self.limits = QueueLimits(monotonic=self.memory.clock.monotonic)
        context = ProviderContext("opay", READER, self.memory.engine, Observer("opay"))
        claims: Any = self.claims
        results: Any = self.results
        self.processor = MessageProcessor(
            {"opay": context},
            results,
            claims,
            queue_limits=self.limits,
            delivery_limit=3,
            stopping=self.memory.stopping,
            clock=self.memory.clock,
        )
        self.delivery = Delivery(
            task="lookup.opay",
            task_id="t",
            claim_id="c",
            queue=QUEUE,
            priority=0,
            retries=0,
            redelivered=False,
            deaths=0,
            seen=self.memory.clock.now(),
        )

    def process(self, *references: str, **changes: Any) -> Finished | Deferred | Released:
        """Process a delivery of lookups of these references, with fields of it changed."""
        requests: list[object] = [{"opay_token": each} for each in references]
        return self.processor.process(replace(self.delivery, **changes), requests, None)

    @property
    def outcomes(self) -> dict[int, Outcome]:
        return {index: step.outcome for (_, index), step in self.results.settled.items()}

    def open_circuit(self, seconds: float = 60, category: Category = Category.RATE_LIMITED) -> None:
        self.memory.circuits.leave_alone("opay", "default", category, seconds, trial=False)


@pytest.fixture
def run() -> Iterator[Processing]:
    processing = Processing()
    yield processing
    processing.memory.engine.close()


def test_every_lookup_of_a_delivery_gets_its_result(run: Processing) -> None:
    run.memory.provider.script("b", NotFound())
    assert run.process("a", "b", "c") == Finished("2 found, 1 not_found")
    assert [type(outcome) for _, outcome in sorted(run.outcomes.items())] == [Found, NotFound, Found]
    assert sorted(each for _, _, indexes in run.claims.published_lookups for each in indexes) == [0, 1, 2]
    assert run.claims.deferred_entries == []


def test_a_delivery_whose_claim_is_lost_is_left_alone(run: Processing) -> None:
    run.claims.lost.add("c")
    assert run.process("a") == Released()
    assert (run.memory.provider.calls, run.outcomes) == ([], {})


# --- the rest


def test_the_lookups_that_remain_wait_in_an_entry_of_their_own(run: Processing) -> None:
    run.memory.provider.script("b", DOWN, Found(record := run.memory.found("b").token))
    deferred = run.process("a", "b")
    assert isinstance(deferred, Deferred)
    assert deferred.reason == "opay: 1 unavailable at attempt 1; again in 1.0 s"
    assert deferred.due == run.memory.clock.now() + timedelta(seconds=1)
    [entry] = run.claims.deferred_entries
    assert (entry.queue, entry.due) == (QUEUE, deferred.due)
    assert run.claims.deferrals == [("c", entry.claim_id, "t", [1])]
    envelope = opened(entry.entry, deferred=True)
    assert envelope.requests == [{"opay_token": "b"}]
    run.memory.clock.advance(1)
    retry = RetryState.model_validate(envelope.retry)
    assert run.processor.process(run.delivery, envelope.requests, retry) == Finished("1 found")
    assert run.outcomes[1] == Found(record)
    assert run.results.settled["t", 1].lookup.attempts == 2


def test_a_lookup_that_is_not_due_is_deferred_without_a_call(run: Processing) -> None:
    run.memory.provider.script("a", DOWN)
    run.process("a")
    envelope = opened(run.claims.deferred_entries[0].entry, deferred=True)
    calls = len(run.memory.provider.calls)
    again = run.processor.process(run.delivery, envelope.requests, RetryState.model_validate(envelope.retry))
    assert isinstance(again, Deferred)
    assert len(run.memory.provider.calls) == calls


def test_a_deferral_whose_answer_was_lost_is_put_once(run: Processing) -> None:
    run.memory.provider.script("a", DOWN)
    run.claims.errors.append(RedisConnectionError())
    assert isinstance(run.process("a"), Deferred)
    assert len(run.claims.deferred_entries) == 1


# --- deliveries that came before


def test_a_published_result_is_not_asked_for_again(run: Processing) -> None:
    run.process("a", "b")
    run.memory.provider.calls.clear()
    run.claims.published_lookups.clear()
    assert run.process("a", "b", "c", redelivered=True) == Finished("1 found")
    assert run.memory.provider.calls == ["c"]
    assert run.claims.published_lookups == [("c", "t", [0, 1]), ("c", "t", [2])]


def test_a_result_that_was_published_meanwhile_is_suppressed(run: Processing, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tasks")
    run.process("a")
    before = run.outcomes
    run.process("a")
    assert run.outcomes == before
    assert "task t: 1 results had been published before" in caplog.messages


def test_a_revoked_message_expires_without_a_call(run: Processing) -> None:
    run.process("a", "b", revoked=True)
    failure = Failure(Category.EXPIRED, "revoked before the provider was asked")
    assert run.outcomes == {0: failure, 1: failure}
    assert run.memory.provider.calls == []


def test_lookups_run_alone_before_the_delivery_limit_is_reached(run: Processing) -> None:
    run.process("a", "b", deaths=1)
    assert run.claims.ran_alone == []
    run.memory.provider.most_at_once = 0
    run.process("c", "d", "e", deaths=2)
    assert run.claims.ran_alone == [("c", 0), ("c", 1), ("c", 2)]
    assert run.memory.provider.most_at_once == 1


def test_the_lookup_that_workers_die_of_fails_and_the_others_are_run(run: Processing) -> None:
    run.claims.suspects["c"] = 1
    run.process("a", "b", "c", deaths=3)
    assert run.outcomes[1] == Failure(Category.INTERNAL, "3 workers have died of it")
    assert run.memory.provider.calls == ["a", "c"]


def test_a_message_that_only_shared_the_process_is_run(run: Processing) -> None:
    assert isinstance(run.process("a", "b", deaths=3), Finished)
    assert {type(outcome) for outcome in run.outcomes.values()} == {Found}
    assert run.memory.provider.counts == {"a": 1, "b": 1}


# --- blocked


@pytest.mark.parametrize(("accounts", "released"), [(("default",), True), (("default", "other"), False)])
def test_a_message_with_nothing_but_blocked_lookups_goes_back_where_all_accounts_are_blocked(
    accounts: tuple[str, ...], released: bool
) -> None:
    run = Processing(accounts=accounts)
    run.open_circuit()
    end = run.process("a", "b")
    assert isinstance(end, Released) is released
    assert run.claims.released_unstarted == (["c"] if released else [])
    if isinstance(end, Deferred):
        assert end.reason.startswith("opay: 2 blocked because the provider asked to be left alone; again in ")
        [entry] = run.claims.deferred_entries
        assert len(opened(entry.entry, deferred=True).requests) == 2


def test_an_interactive_message_waits_for_a_pause_beside_its_queue(run: Processing) -> None:
    run.open_circuit(5)
    assert isinstance(run.process("a", queue=INTERACTIVE), Deferred)
    assert run.claims.released_unstarted == []


def test_a_message_that_found_no_permit_limits_its_queue(run: Processing) -> None:
    run.memory.limits.permits["opay"] = 0
    run.memory.limits.wait = 5.0
    run.claims.held[QUEUE] = 8
    assert run.process("a", "b") == Released()
    assert run.limits.allowance(QUEUE) == 0
    run.memory.clock.advance(1.1)
    assert run.limits.allowance(QUEUE) == 4


# --- trouble


def test_results_are_published_once_redis_answers_again(run: Processing, caplog: pytest.LogCaptureFixture) -> None:
    run.results.errors += [RedisConnectionError("gone"), RedisConnectionError("gone")]
    assert run.process("a") == Finished("1 found")
    assert [each for each in caplog.messages if "retrying" in each] == [
        "Redis cannot be asked (ConnectionError: gone); retrying"
    ]


def test_a_worker_that_stops_while_redis_is_away_gives_up(run: Processing) -> None:
    def settle_and_stop() -> Outcome:
        run.memory.stopping.set()
        return run.memory.found("a")

    run.memory.provider.script("a", settle_and_stop)
    run.results.errors.append(RedisConnectionError())
    with pytest.raises(WorkerStoppingError):
        run.process("a")
    assert run.outcomes == {}


def test_an_error_of_ours_leaves_no_lookup_without_a_result(
    run: Processing, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[list[object]]:
        raise ValueError("confidential")

    monkeypatch.setattr(run.memory.engine, "run", broken)
    assert run.process("a", "b") == Finished("2 internal")
    failure = Failure(Category.INTERNAL, "an unexpected error in this service")
    assert run.outcomes == {0: failure, 1: failure}
    assert "confidential" not in caplog.text


def test_results_of_fast_lookups_are_out_before_slow_ones_end(run: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    out = threading.Event()
    publish = run.results.publish

    def notice(*args: Any) -> int:
        again = publish(*args)
        out.set()
        return again

    def slow() -> Outcome:
        assert out.wait(10)
        return run.memory.found("slow")

    monkeypatch.setattr(run.results, "publish", notice)
    run.memory.provider.script("slow", slow)
    assert run.process("slow", "fast") == Finished("2 found")


def test_a_deferred_entry_shows_references_in_its_body_alone(run: Processing) -> None:
    run.memory.provider.script("OPAY_TOKEN_secret", DOWN)
    deferred = run.process("OPAY_TOKEN_secret")
    assert "OPAY_TOKEN_secret" not in repr(deferred)
    entry = json.loads(run.claims.deferred_entries[0].entry)
    assert "OPAY_TOKEN_secret" not in json.dumps({**entry, "body": ""})
