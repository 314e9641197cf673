"""Runs a list of lookups against a provider, concurrently. Knows no Celery and no Redis."""

import logging
import math
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from cardtoken.contract import Category, LookupRequest
from cardtoken.secret import Secret
from tasks import faults
from tasks.access_tokens import AccessTokenCache
from tasks.http import HttpClient
from tasks.lookups import Lookup, Postponed, Settled, Untouched
from tasks.outcomes import Failure, Outcome
from tasks.providers.provider import Account, Provider, Query
from tasks.retry import Again, RetryPolicy

logger = logging.getLogger(__name__)

Step = Settled | Postponed | Untouched

#: A result waits at most so many seconds for others to be published with it.
LINGER = 0.05


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Credentials:
    """One account, and its access tokens where the provider wants them."""

    account: Account
    access_tokens: AccessTokenCache | None


class Engine:
    """Asks one provider, with at most ``concurrency`` calls at once from this process."""

    def __init__(
        self,
        provider: Provider[Any],
        accounts: Mapping[str, Account],
        *,
        http: HttpClient,
        policy: RetryPolicy,
        concurrency: int,
        stopping: threading.Event | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._provider = provider
        self._http = http
        self._policy = policy
        self._concurrency = concurrency
        self._stopping = stopping or threading.Event()
        self._now = now
        scheme = provider.access_tokens
        self._credentials = {
            name: _Credentials(account, AccessTokenCache(scheme, account, http.send) if scheme else None)
            for name, account in accounts.items()
        }
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"{provider.name}-call")

    def run(self, lookups: Iterable[Lookup]) -> Iterator[list[Step]]:
        """Take every lookup one step: settled, or postponed to a later try. Steps come in batches, as they are made.

        At most ``concurrency`` lookups of a list are handed to the threads at once, so lists that run side by side
        get their turns alternately, and a short one does not wait for the whole of a long one. When ``stopping`` is
        set, calls under way are finished and no other is begun.
        """
        waiting = deque(lookups)
        done: SimpleQueue[Step] = SimpleQueue()
        running = 0
        while waiting or running:
            batch: list[Step] = []
            until = math.inf
            # What has ended makes room at once, also while its batch waits for company.
            while waiting or running:
                if waiting and self._stopping.is_set():
                    batch += [Untouched(lookup) for lookup in waiting]
                    waiting.clear()
                    until = monotonic()
                    continue
                while waiting and running < self._concurrency:
                    self._threads.submit(self._step_into, done, waiting.popleft())
                    running += 1
                try:
                    batch.append(done.get(timeout=None if until == math.inf else max(0.0, until - monotonic())))
                except Empty:
                    break
                running -= 1
                until = min(until, monotonic() + LINGER)
            yield batch

    def close(self) -> None:
        """End the threads once their running calls are over."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _step_into(self, done: SimpleQueue[Step], lookup: Lookup) -> None:
        try:
            step = self._step(lookup)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this lookup's failure and nobody else's
            # The type alone: an exception's text may quote what it was given.
            logger.error("lookup %s ended in %s", lookup.lookup_id, type(error).__name__)  # noqa: TRY400 - see above
            step = Settled(lookup, Failure(Category.INTERNAL, "an unexpected error in this service"), self._now())
        done.put(step)

    def _step(self, lookup: Lookup) -> Step:
        if lookup.request is None:
            return self._settled(lookup, Failure(Category.INVALID_REQUEST, lookup.fault or "the request is not valid"))
        credentials = self._credentials.get(lookup.account)
        if credentials is None:
            return self._settled(lookup, Failure(Category.INVALID_REQUEST, "account: there is no such account"))
        now = self._now()
        if lookup.deadline <= now:
            again = " again" if lookup.attempts else ""
            return self._settled(
                lookup, Failure(Category.EXPIRED, f"the deadline passed before the provider was asked{again}")
            )
        # An answer after the deadline is worth nothing, so no call outlasts it.
        until = monotonic() + (lookup.deadline - now).total_seconds()
        lookup, outcome = self._ask(lookup, lookup.request, credentials, until)
        if outcome is None:
            return Untouched(lookup)
        if isinstance(outcome, Failure):
            decision = self._policy.decide(outcome, lookup.attempts, self._now(), lookup.deadline)
            if isinstance(decision, Again):
                return Postponed(lookup.waiting_until(decision.not_before), outcome)
        return self._settled(lookup, outcome)

    def _ask(
        self, lookup: Lookup, request: LookupRequest, credentials: _Credentials, deadline: float
    ) -> tuple[Lookup, Outcome | None]:
        """One call; a second one where the provider refused the access token, if there is one left to make.

        None where the worker ends before the second one.
        """
        renewed = False
        while True:
            # A request for an access token that fails counts as the call that it was wanted for, and takes of its time.
            lookup = lookup.attempted()
            until = min(deadline, monotonic() + self._http.limits.total)
            token: Secret | None = None
            if credentials.access_tokens is not None:
                got = credentials.access_tokens.get(until)
                if isinstance(got, Failure):
                    return lookup, got
                token = got
            query = Query(request.reference, credentials.account, secrets.token_hex(16), token)
            response = self._http.send(self._provider.build(query), until)
            faults.reached("asked")
            if isinstance(response, Failure):
                return lookup, response
            if (
                token is None
                or credentials.access_tokens is None
                or renewed
                or not credentials.access_tokens.refused(response)
            ):
                return lookup, self._provider.parse(response, query)
            credentials.access_tokens.discard(token)
            renewed = True
            if lookup.attempts >= self._policy.max_attempts:
                return lookup, self._provider.parse(response, query)
            if self._stopping.is_set():
                return lookup, None

    def _settled(self, lookup: Lookup, outcome: Outcome) -> Settled:
        return Settled(lookup, outcome, self._now())
