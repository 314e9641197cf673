"""What is told of one provider's lookups, in metrics, in the log and to Sentry. No card holder's data, no token."""

import logging
from collections import Counter
from collections.abc import Collection
from time import monotonic
from typing import Final

from cardtoken.contract import Category, Lane, Status
from cardtoken.secret import CardToken
from tasks.http.messages import Exchange, HttpRequest, HttpResponse
from tasks.lookups.lookup import Blocked, Postponed, Settled
from tasks.lookups.outcomes import Failure, Found, NotFound, Outcome
from tasks.telemetry import metrics, reports

#: The line of a lookup; -l WARNING leaves these lines out, and with them a twentieth of a busy worker's time.
logger = logging.getLogger("lookup")

#: Failures that are answers all the same: the provider's "not this card", and what no provider was asked about.
_ANSWERED: Final = frozenset({Category.REJECTED, Category.INVALID_REQUEST})


class Observer:
    """Of one provider. ``codes`` are those of its table; any other is told, but in the log, as the HTTP status."""

    def __init__(self, provider: str, codes: Collection[str] = ()) -> None:
        self._provider = provider
        self._codes = frozenset(codes)
        self._in_flight = metrics.CALLS_IN_FLIGHT.labels(provider)
        self._exchange_seconds = metrics.EXCHANGE_SECONDS.labels(provider)
        # From the start, at 0: Prometheus sees no increase in what was not there before.
        metrics.SUPPRESSED.labels(provider)
        for lane in Lane:
            metrics.UNANSWERED.labels(provider, lane)
            for status in (Status.FOUND, Status.NOT_FOUND):
                metrics.LOOKUPS.labels(provider, lane, status, "", "")
                metrics.LOOKUP_SECONDS.labels(provider, lane, status)

    def exchange(
        self, send: Exchange, request: HttpRequest, until: float | None, reference: CardToken
    ) -> HttpResponse | Failure:
        """Make an exchange about a reference, measured."""
        span = reports.exchange_span(request, reference)
        self._in_flight.inc()
        began = monotonic()
        response = send(request, until)
        self._exchange_seconds.observe(monotonic() - began)
        self._in_flight.dec()
        if span is not None:
            reports.end_span(span, response)
        return response

    def attempted(self, lane: Lane, outcome: Outcome, calls: int) -> None:
        """So many calls were made for a lookup, the last of which came to this."""
        if calls:
            metrics.counter(metrics.ATTEMPTS, self._provider, lane, _kind(outcome)).inc(calls)

    def postponed(self, lane: Lane, step: Postponed) -> None:
        """Count a lookup of which there will be another attempt."""
        category, code = self._labels(step.why)
        metrics.RETRIES.labels(self._provider, lane, category, code).inc()

    def blocked(self, lane: Lane, steps: Collection[Blocked]) -> None:
        """Count lookups that were put back without a call."""
        if not steps:
            return
        for reason, count in Counter(step.reason for step in steps).items():
            metrics.HELD.labels(self._provider, lane, reason).inc(count)

    def settled(self, lane: Lane, task_id: str, step: Settled) -> None:
        """A lookup's result is out."""
        lookup, outcome = step.lookup, step.outcome
        status = _status(outcome)
        category, code = self._labels(outcome)
        seconds = max(0.0, (step.completed_at - lookup.requested_at).total_seconds())
        metrics.counter(metrics.LOOKUPS, self._provider, lane, status, category, code).inc()
        metrics.histogram(metrics.LOOKUP_SECONDS, self._provider, lane, status).observe(seconds)
        if isinstance(outcome, Failure):
            if outcome.category not in _ANSWERED:
                metrics.counter(metrics.UNANSWERED, self._provider, lane).inc()
            reports.given_up(self._provider, lookup.account, outcome, code)
        if logger.isEnabledFor(logging.INFO):
            line: dict[str, object] = {
                "provider": self._provider,
                "account": lookup.account,
                "lane": str(lane),
                "status": str(status),
                "attempts": lookup.attempts,
                "total_seconds": round(seconds, 3),
                "lookup_id": lookup.shown_id,
                "task_id": task_id,
            }
            if isinstance(outcome, Failure):
                line |= {"category": str(outcome.category), "code": outcome.code}
            if step.call_seconds is not None:
                line["call_seconds"] = round(step.call_seconds, 3)
            logger.info("%s", status, extra=line)

    def _labels(self, outcome: Outcome) -> tuple[str, str]:
        if not isinstance(outcome, Failure):
            return "", ""
        code = ""
        if outcome.code in self._codes:
            code = outcome.code or ""
        elif outcome.http_status not in {None, 200}:
            code = str(outcome.http_status)
        elif outcome.code:
            code = "other"
        return str(outcome.category), code


def retried(*, task_id: str, provider: str, lane: Lane, lookups: int, again_in: float, why: str) -> None:
    """A message goes back to its queue, because of a failure."""
    line = {"provider": provider, "lane": str(lane), "lookups": lookups, "again_in": round(again_in, 1)}
    logger.info("retry: %s", why, extra={**line, "task_id": task_id})


def _status(outcome: Outcome) -> Status:
    match outcome:
        case Found():
            return Status.FOUND
        case NotFound():
            return Status.NOT_FOUND
        case _:
            return Status.FAILED


def _kind(outcome: Outcome) -> str:
    return str(outcome.category) if isinstance(outcome, Failure) else str(_status(outcome))
