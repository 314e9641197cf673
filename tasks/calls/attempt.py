"""One attempt at a lookup: one call to its provider, and the step that follows from it."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from cardtoken.contract import Category, Lane, LookupRequest
from cardtoken.error_description import describe_error
from cardtoken.secret import Secret
from tasks import crash_points
from tasks.calls.access_tokens import AccessTokenCache
from tasks.calls.admission import Admission, Circuit, CompletedCall, PutBack
from tasks.calls.question import Question
from tasks.calls.retry import RetryAt, RetryPolicy
from tasks.http.messages import Send
from tasks.lookups.lookup import Blocked, Lookup, NotStarted, Postponed, Reason, Settled, Step
from tasks.lookups.outcomes import Failure, NotFound, Outcome
from tasks.providers.provider import Account, Provider
from tasks.telemetry import reports
from tasks.telemetry.observer import Observer

logger = logging.getLogger(__name__)

#: Seconds after which a lookup is retried that this machine lacked the means to call.
_SHORTAGE_PAUSE_SECONDS = 1.0
#: Seconds after which the shortage is logged again.
_SHORTAGE_LOG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Credentials:
    """One account, and its access tokens where the provider requires them."""

    account: Account
    access_tokens: AccessTokenCache | None


class Attempts:
    """Attempts at the lookups of one provider. Every method may be called from any thread.

    ``call_timeout`` is the longest that a call may take, ``not_found_grace`` the time after ``requested_at`` during
    which a not-found is retried; both in seconds. Once ``stopping`` is set, no further call is made for a lookup.
    ``refresh`` is called where the provider refuses an account's keys: it calls ``replace`` if there are newer ones.
    """

    def __init__(
        self,
        provider: Provider[Any],
        accounts: Mapping[str, Account],
        *,
        send: Send,
        call_timeout: float,
        policies: Mapping[Lane, RetryPolicy],
        admission: Admission,
        observer: Observer,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        not_found_grace: float = 0.0,
        stopping: threading.Event,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        self.admission = admission
        self._provider = provider
        self._send = send
        self._call_timeout = call_timeout
        self._policies = policies
        self._observer = observer
        self._now = now
        self._monotonic = monotonic
        self._grace = timedelta(seconds=not_found_grace)
        self._stopping = stopping
        self._refresh = refresh
        self._shortage_logged_at = -math.inf
        self._credentials: Mapping[str, _Credentials] = {}
        self.replace(accounts)

    def replace(self, accounts: Mapping[str, Account]) -> None:
        """Use these accounts from now on, all at once. Calls under way end with what they began with.

        The access token of an account that is as it was is kept, any other one dropped.
        """
        known = self._credentials
        self._credentials = {
            name: known[name] if name in known and known[name].account == account else self._new_credentials(account)
            for name, account in accounts.items()
        }
        self.admission.replace(accounts)

    def _new_credentials(self, account: Account) -> _Credentials:
        scheme = self._provider.access_tokens
        if scheme is None:
            return _Credentials(account, None)
        # On a connection of its own: what another account's request left on one must not be taken for a token.
        return _Credentials(
            account, AccessTokenCache(scheme, account, partial(self._send, alone=True), self._monotonic)
        )

    def needs_call(self, lookup: Lookup) -> bool:
        """Return whether a call is needed to settle the lookup, and can still be made."""
        return lookup.request is not None and lookup.account in self._credentials and lookup.deadline > self._now()

    def put_back(self, lookup: Lookup, lane: Lane, decision: PutBack) -> Step:
        """Return the step of a lookup that may not be called now: blocked, or settled where a person waits for it."""
        if lane is Lane.INTERACTIVE and decision.reason is Reason.CIRCUIT:
            words = "the provider is down, and is not asked until it is well again"
            return self._settled(lookup, Failure(Category.UNAVAILABLE, words))
        if lane is Lane.INTERACTIVE and decision.asked and self._is_too_late(lookup, decision.seconds):
            words = f"the provider asked to be left alone, for {math.ceil(decision.seconds)} more seconds"
            return self._settled(lookup, Failure(decision.asked, words))
        return Blocked(lookup, decision.seconds, decision.reason)

    def attempt_safely(self, lookup: Lookup, lane: Lane, *, trial: bool = False) -> Step:
        """Attempt a lookup. An unexpected error is the failure of this lookup; nothing is raised."""
        try:
            # The circuit may have opened while this lookup waited for a thread.
            decision = None if trial else self.admission.check_open(lookup.account)
            if decision is not None and self.needs_call(lookup):
                return self.put_back(lookup, lane, decision)
            return self.attempt(lookup, lane, trial=trial)
        except Exception as error:  # noqa: BLE001 - it fails this lookup, and must not fail the others of the list
            reports.unexpected(error)
            # Not the error's text, which may quote what it was given.
            logger.error("lookup %s ended in %s", lookup.shown_id, describe_error(error))  # noqa: TRY400 - see above
            if trial:
                self.admission.abandon_trial(lookup.account)
            return self._settled(lookup, Failure(Category.INTERNAL, "an unexpected error in this service"))

    def attempt(self, lookup: Lookup, lane: Lane, *, trial: bool = False) -> Step:
        """Call the provider about a lookup. Return the step that follows."""
        now = self._now()
        credentials = self._credentials.get(lookup.account)
        if lookup.request is None or credentials is None or lookup.deadline <= now:
            if trial:
                self.admission.abandon_trial(lookup.account)
            return self._settled(lookup, _failure_without_call(lookup, credentials))
        # An answer after the deadline is worthless, so no call outlasts it.
        began = self._monotonic()
        until = began + (lookup.deadline - now).total_seconds()
        called, outcome = self._call(lookup, lookup.request, credentials, until, self._policies[lane])
        if outcome is None or (isinstance(outcome, Failure) and outcome.local):
            if trial:
                self.admission.abandon_trial(lookup.account)
            return NotStarted(called) if outcome is None else self._lacking(lookup, outcome)
        call = CompletedCall(outcome, began, self._monotonic(), repeated=lookup.attempts > 0, trial=trial)
        self._observer.attempted(lane, outcome, called.attempts - lookup.attempts)
        circuit = self._record(lookup.account, call, until)
        return self._step_after(called, lane, call, circuit)

    def _lacking(self, lookup: Lookup, failure: Failure) -> Step:
        """Return the step of a lookup that this machine lacked the means to call: no attempt is charged for it."""
        if self._monotonic() - self._shortage_logged_at > _SHORTAGE_LOG_SECONDS:
            self._shortage_logged_at = self._monotonic()
            logger.warning("calls to %s go back uncharged: %s", self._provider.name, failure.message)
        if self._is_too_late(lookup, _SHORTAGE_PAUSE_SECONDS):
            return self._settled(lookup, replace(failure, category=Category.INTERNAL))
        return Blocked(lookup, _SHORTAGE_PAUSE_SECONDS, Reason.WORKER)

    def _record(self, account: str, call: CompletedCall, until: float) -> Circuit:
        outcome = call.outcome
        cut_short = call.ended >= until and isinstance(outcome, Failure) and outcome.category is Category.TIMEOUT
        if cut_short and not call.trial:
            return Circuit()  # its own deadline left it too little time, which is not the provider's fault
        return self.admission.record(account, call)

    def _step_after(self, lookup: Lookup, lane: Lane, call: CompletedCall, circuit: Circuit) -> Step:
        outcome, seconds = call.outcome, call.ended - call.began
        why: Failure | NotFound
        if isinstance(outcome, Failure):
            why = failure = outcome
            lookup = lookup.unread() if failure.may_pass else lookup
        elif isinstance(outcome, NotFound) and self._now() < lookup.requested_at + self._grace:
            # A token that was made moments ago may not be known everywhere yet.
            why, failure = outcome, Failure(Category.UNAVAILABLE, "not found yet")
        else:
            return self._settled(lookup, outcome, seconds)
        policy = self._policies[lane]
        decision = policy.decide(failure, lookup.attempts, self._now(), lookup.deadline, lookup.unreadable)
        if not isinstance(decision, RetryAt):
            return self._settled(lookup, outcome, seconds)
        not_before = decision.not_before
        if circuit.seconds_until_trial is not None:
            # After a trial this lookup has had its turn: the next trial is another's.
            wait = 2 * circuit.seconds_until_trial + 1 if call.trial else circuit.seconds_until_trial
            # Where a person waits, and the circuit is open, waiting longer helps only if the provider said how long.
            if lane is Lane.INTERACTIVE and (not circuit.asked or self._is_too_late(lookup, wait)):
                return self._settled(lookup, outcome, seconds)
            not_before = max(not_before, self._now() + timedelta(seconds=wait))
        return Postponed(lookup.waiting_until(not_before), why)

    def _call(
        self, lookup: Lookup, request: LookupRequest, credentials: _Credentials, deadline: float, policy: RetryPolicy
    ) -> tuple[Lookup, Outcome | None]:
        """Make one call; another if the provider refused the access token, or keys that have been replaced since.

        Each counts, and none is made that is one too many. Return the lookup with its attempts counted, and the
        outcome: None if the worker stops before the next call.
        """
        renewed = replaced = False
        while True:
            # A failed request for an access token counts as the call that it was for, and takes of its time.
            lookup = lookup.attempted()
            until = min(deadline, self._monotonic() + self._call_timeout)
            outcome, refused = self._exchange(request, credentials, until)
            again = False
            if refused is not None and credentials.access_tokens is not None:
                credentials.access_tokens.discard(refused)
                again, renewed = not renewed, True
            if not replaced and isinstance(outcome, Failure) and outcome.category is Category.AUTHENTICATION:
                newer = self._newer_credentials(lookup.account, credentials, look=not again)
                if newer is not None:
                    credentials, again, replaced = newer, True, True
            if not again or not policy.allows(lookup.attempts) or self._monotonic() >= deadline:
                return lookup, outcome
            if self._stopping.is_set():
                return lookup, None

    def _exchange(
        self, request: LookupRequest, credentials: _Credentials, until: float
    ) -> tuple[Outcome, Secret | None]:
        """Return what one call came to, and the access token if the provider refused it."""
        token: Secret | None = None
        if credentials.access_tokens is not None:
            got = credentials.access_tokens.get(until)
            if isinstance(got, Failure):
                return got, None
            token = got
        question = Question(self._provider, request.reference, credentials.account, token)
        send = partial(self._send, believed=question.believed, again=question.request)
        response = self._observer.exchange(send, question.request(), until, request.reference)
        crash_points.reached("asked")
        if isinstance(response, Failure):
            return response, None
        refused = credentials.access_tokens is not None and credentials.access_tokens.refused(response)
        return question.outcome(response), token if refused else None

    def _newer_credentials(self, account: str, used: _Credentials, *, look: bool) -> _Credentials | None:
        """Return the account's credentials if they are others than those used; ``look`` for newer ones if not."""
        newer = self._credentials.get(account)
        if newer is used and look:
            self._refresh()
            newer = self._credentials.get(account)
        return None if newer is used else newer

    def _is_too_late(self, lookup: Lookup, seconds: float) -> bool:
        """Return whether the deadline passes within that time."""
        return self._now() + timedelta(seconds=seconds) >= lookup.deadline

    def _settled(self, lookup: Lookup, outcome: Outcome, call_seconds: float | None = None) -> Settled:
        return Settled(lookup, outcome, self._now(), call_seconds)


def _failure_without_call(lookup: Lookup, credentials: _Credentials | None) -> Failure:
    if lookup.request is None:
        return Failure(Category.INVALID_REQUEST, lookup.fault or "the request is not valid")
    if credentials is None:
        return Failure(Category.INVALID_REQUEST, "account: there is no such account")
    again = " again" if lookup.attempts else ""
    return Failure(Category.EXPIRED, f"the deadline passed before the provider was asked{again}")
