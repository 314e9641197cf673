"""How far the lookups of one message have come, and what is said of them."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tasks.lookups.lookup import Blocked, Lookup, Postponed, Reason, Settled
from tasks.lookups.outcomes import Found, NotFound


@dataclass(slots=True)
class MessageProgress:
    """How far a message has come: outcomes counted, lookups postponed by a failure, not started, or blocked."""

    settled: Counter[str] = field(default_factory=Counter)
    postponed: list[Postponed] = field(default_factory=list)
    not_started: list[Lookup] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)

    @property
    def all_blocked(self) -> bool:
        """Return whether nothing was done, because every lookup is blocked."""
        return bool(self.blocked) and not (self.settled or self.postponed or self.not_started)

    def remaining(self, now: datetime) -> list[Lookup]:
        """Return the lookups that are not settled, in the order of the list."""
        # Blocked ones at random moments: a circuit that blocks them must not be tried by all at once.
        blocked = [
            step.lookup.waiting_until(now + timedelta(seconds=step.seconds + random.uniform(0, min(1, step.seconds))))  # noqa: S311
            for step in self.blocked
        ]
        return sorted(
            [*(step.lookup for step in self.postponed), *self.not_started, *blocked], key=lambda each: each.index
        )


def outcome_name(settled: Settled) -> str:
    """Return the outcome in a word or two: found, not_found, or the failure's category and code."""
    match settled.outcome:
        case Found():
            return "found"
        case NotFound():
            return "not_found"
        case failure:
            return str(failure)


_BLOCKED: Final = {
    Reason.CIRCUIT: "blocked by an open circuit",
    Reason.RATE_LIMIT: "blocked by the rate limit",
    Reason.RETRY_AFTER: "blocked because the provider asked to be left alone",
    Reason.WORKER: "blocked because this worker lacks what a call takes",
}


def reason_of(provider: str, progress: MessageProgress, seconds: float) -> str:
    """Return why a message comes back in so many ``seconds``: failures by attempt, and what blocks the rest."""
    failures = Counter(f"{step.why} at attempt {step.lookup.attempts}" for step in progress.postponed)
    failures.update(_BLOCKED[step.reason] for step in progress.blocked)
    parts = [f"{provider}: {counted(failures)}"] if failures else [provider]
    if progress.not_started:
        parts.append(f"{len(progress.not_started)} not yet begun")
    return f"{'; '.join(parts)}; again in {seconds:.1f} s"


def counted(counter: Counter[str]) -> str:
    """Return the names with their counts, the most frequent first."""
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())
