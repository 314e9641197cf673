"""Lookups of a provider in memory, run by the engine with circuits, rate limits and a clock in memory."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cardtoken.contract import Lane, TokenRecord
from cardtoken.providers import OpayRequest
from tasks.calls.admission import Admission
from tasks.calls.attempt import Attempts
from tasks.calls.engine import Engine
from tasks.calls.retry import RetryPolicy
from tasks.calls.threads import CallThreads
from tasks.lookups.lookup import Lookup, Settled, Step
from tasks.lookups.outcomes import Found
from tasks.lookups.reader import RequestReader
from tasks.providers.provider import Account
from tasks.telemetry.observer import Observer
from tasks.testing.admission import MemoryCircuits, MemoryRateLimiter
from tasks.testing.clock import FakeClock
from tasks.testing.provider import FakeProvider

TASK = "a-task"
READER = RequestReader(model=OpayRequest, deadlines={Lane.INTERACTIVE: 30.0, Lane.BULK: 3600.0})


class InMemory:
    """An engine, and all that stands around it."""

    def __init__(
        self,
        *,
        access_tokens: bool = False,
        concurrency: int = 8,
        max_attempts: int = 5,
        call_timeout: float = 5.0,
        not_found_grace: float = 0.0,
        accounts: tuple[str, ...] = ("default",),
    ) -> None:
        self.clock = FakeClock()
        self.circuits = MemoryCircuits(self.clock.monotonic)
        self.limits = MemoryRateLimiter()
        self.provider = FakeProvider(access_tokens=access_tokens)
        self.stopping = threading.Event()
        #: How often newer keys were looked for because one was refused, and what happens then.
        self.refreshes = 0
        self.on_refresh: Callable[[], None] = lambda: None
        self.threads = CallThreads(concurrency, "call")
        name = self.provider.adapter.name
        self.admission = Admission(name, accounts, self.circuits, self.limits, monotonic=self.clock.monotonic)
        self.attempts = Attempts(
            self.provider.adapter,
            {account: Account() for account in accounts},
            send=self.provider.send,
            call_timeout=call_timeout,
            policies={lane: RetryPolicy(1.0, 60.0, max_attempts, lambda _, high: high) for lane in Lane},
            admission=self.admission,
            observer=Observer(name),
            now=self.clock.now,
            monotonic=self.clock.monotonic,
            not_found_grace=not_found_grace,
            stopping=self.stopping,
            refresh=self._refresh,
        )
        self.engine = Engine(self.attempts, self.threads, self.stopping)

    def _refresh(self) -> None:
        self.refreshes += 1
        self.on_refresh()

    def found(self, reference: str) -> Found:
        """Return what a call about the reference comes to."""
        return Found(TokenRecord(value=reference))

    def read(self, *requests: object, lane: Lane = Lane.BULK) -> list[Lookup]:
        """Return the lookups of a message that has just come."""
        return READER.read(list(requests), task_id=TASK, lane=lane, now=self.clock.now())

    def lookups(self, *references: str, **fields: Any) -> list[Lookup]:
        """Return a lookup for each reference, all with these further fields."""
        return self.read(*({"opay_token": each, **fields} for each in references))

    def ahead(self, seconds: float) -> str:
        """Return a time that far ahead, as a producer writes it."""
        return (self.clock.now() + timedelta(seconds=seconds)).isoformat()

    def run(self, lookups: list[Lookup], lane: Lane = Lane.BULK) -> list[Step]:
        """Return one step of each lookup, in their order."""
        steps = [step for batch in self.engine.run(lookups, lane) for step in batch]
        assert sorted(step.lookup.index for step in steps) == sorted(lookup.index for lookup in lookups)
        return sorted(steps, key=lambda step: step.lookup.index)

    def one(self, reference: str, lane: Lane = Lane.BULK, **fields: Any) -> Step:
        """Return the step of one new lookup."""
        (step,) = self.run(self.lookups(reference, **fields), lane)
        return step

    def settle(self, lookup: Lookup, lane: Lane = Lane.BULK) -> Settled:
        """Return the end of a lookup; the clock goes ahead to when it may be tried."""
        while True:
            (step,) = self.run([lookup], lane)
            if isinstance(step, Settled):
                return step
            lookup = step.lookup
            waits = (lookup.not_before or self.clock.now()) - self.clock.now()
            self.clock.advance(max(0.0, waits.total_seconds()))
