"""When a provider is called again. Decides, never sleeps."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cardtoken.contract import Category, Lane
from tasks.lookups.outcomes import Failure

#: Failures that may pass by themselves within seconds. Any other failure settles its lookup, unless it is marked so.
TRANSIENT = frozenset({Category.TIMEOUT, Category.UNAVAILABLE, Category.RATE_LIMITED})
#: Number of unreadable answers after which a lookup is settled. Most pass by themselves, as a gateway's own page does
#: during a rollout; the others never do.
UNREADABLE: Final = {Lane.INTERACTIVE: 3, Lane.BULK: 6}


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Retry, not before this moment."""

    not_before: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The failure is the lookup's result."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, and a floor.

    The wait before attempt n + 1 is drawn evenly from 0 to ``base_delay * 2 ** (n - 1)``, that bound capped at
    ``max_delay``; a draw under a tenth of ``base_delay`` becomes that tenth, so that no provider is called again in the
    same instant. Where the provider said how long to wait, the draw comes on top of that, and the sum may exceed
    ``max_delay``: lookups that were turned away together do not come back together. With base 0.5 and maximum 60
    seconds the bounds are 0.5, 1, 2, 4, … 60.

    ``max_attempts`` is the number of calls that a lookup may take, ``max_unreadable`` the number of unreadable answers
    among them.
    """

    base_delay: float
    max_delay: float
    max_attempts: int
    draw: Callable[[float, float], float] = random.uniform  # noqa: S311 - jitter keeps no secret
    max_unreadable: int = UNREADABLE[Lane.INTERACTIVE]

    def allows(self, attempts: int) -> bool:
        """Return whether another call may be made after this many."""
        return attempts < self.max_attempts

    def decide(
        self, failure: Failure, attempts: int, now: datetime, deadline: datetime, unreadable: int = 0
    ) -> RetryAt | GiveUp:
        """Return what follows a failure.

        ``attempts`` is the number of calls made so far, ``unreadable`` that of unreadable answers; both with this one.
        """
        may_pass = failure.category in TRANSIENT or (failure.may_pass and unreadable < self.max_unreadable)
        if not may_pass or not self.allows(attempts):
            return GiveUp()
        try:
            not_before = now + timedelta(seconds=self.delay(attempts, failure.retry_after))
        except OverflowError:  # the provider asked to be left alone for longer than dates go
            return GiveUp()
        return RetryAt(not_before) if not_before < deadline else GiveUp()

    def delay(self, attempts: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after this many attempts."""
        # Beyond 2 ** 64 the cap has long been reached, and the power would outgrow a float.
        bound = min(self.max_delay, self.base_delay * 2.0 ** min(attempts - 1, 64))
        return (retry_after or 0.0) + max(self.draw(0.0, bound), self.base_delay / 10)


#: Lookups of one list that are due within this many seconds of each other are retried together.
WAVE = 1.0


def next_delivery_time(now: datetime, due: Iterable[tuple[datetime, datetime]]) -> datetime:
    """Return the redelivery time for (not_before, deadline) pairs, of which there must be one at least.

    It is the first ``not_before``, delayed for the lookups that are due within ``WAVE`` seconds of it, unless waiting
    for them would let a deadline pass.
    """
    (first, deadline), *others = sorted((max(now, not_before), until) for not_before, until in due)
    at = first
    for not_before, until in others:
        deadline = min(deadline, until)
        if not_before > first + timedelta(seconds=WAVE) or not_before >= deadline:
            break
        at = not_before
    return at
