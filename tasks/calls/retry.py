"""When to ask a provider again. Decides, never sleeps."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cardtoken.contract import Category, Lane
from tasks.lookups.outcomes import Failure

#: What may pass by itself within seconds. A lookup with any other failure ends with it, unless that says that it may.
TRANSIENT = frozenset({Category.TIMEOUT, Category.UNAVAILABLE, Category.RATE_LIMITED})
#: How many answers that cannot be read a lookup is given before they are its result. Most pass by themselves, as a
#: gateway's own page does during a rollout; the others never do.
UNREADABLE: Final = {Lane.INTERACTIVE: 3, Lane.BULK: 6}


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again, not before this moment."""

    not_before: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The failure is the lookup's result."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, and a floor.

    The wait before attempt n + 1 is drawn evenly from 0 to ``base_delay * 2 ** (n - 1)``, that bound capped at
    ``max_delay``; a draw under a tenth of ``base_delay`` becomes that tenth, so that nobody is asked again in the same
    instant. Where the provider said how long to stay away, the draw comes on top of its word, which may exceed
    ``max_delay``: all that were sent away together do not come back together. With base 0.5 and maximum 60 seconds the
    bounds are 0.5, 1, 2, 4, … 60.

    ``max_attempts`` is how many calls a lookup may take, ``max_unreadable`` how many of them may bring an answer that
    cannot be read.
    """

    base_delay: float
    max_delay: float
    max_attempts: int
    draw: Callable[[float, float], float] = random.uniform  # noqa: S311 - jitter keeps no secret
    max_unreadable: int = UNREADABLE[Lane.INTERACTIVE]

    def allows(self, attempts: int) -> bool:
        """Whether a lookup may be asked for once more after so many calls."""
        return attempts < self.max_attempts

    def decide(
        self, failure: Failure, attempts: int, now: datetime, deadline: datetime, unreadable: int = 0
    ) -> RetryAt | GiveUp:
        """What follows a failure.

        ``attempts`` are the calls made so far, ``unreadable`` those of them that brought no answer that could be read;
        both with this one.
        """
        may_pass = failure.category in TRANSIENT or (failure.may_pass and unreadable < self.max_unreadable)
        if not may_pass or not self.allows(attempts):
            return GiveUp()
        try:
            not_before = now + timedelta(seconds=self.delay(attempts, failure.retry_after))
        except OverflowError:  # the provider asked to be left alone for longer than there is a calendar for
            return GiveUp()
        return RetryAt(not_before) if not_before < deadline else GiveUp()

    def delay(self, attempts: int, retry_after: float | None = None) -> float:
        """Seconds to wait after so many attempts."""
        # Beyond 2 ** 64 the cap has long been reached, and the power would outgrow a float.
        bound = min(self.max_delay, self.base_delay * 2.0 ** min(attempts - 1, 64))
        return (retry_after or 0.0) + max(self.draw(0.0, bound), self.base_delay / 10)


#: Lookups of one list that are due within so many seconds of each other are tried again together.
WAVE = 1.0


def next_delivery_time(now: datetime, due: Iterable[tuple[datetime, datetime]]) -> datetime:
    """When a list should come back whose lookups may be tried again from one moment and until another.

    The list comes back for the first of them, and as late as that still serves it: whoever is due within ``WAVE``
    seconds comes along, unless waiting for them would let a deadline pass. At least one pair must be given.
    """
    (first, deadline), *others = sorted((max(now, not_before), until) for not_before, until in due)
    at = first
    for not_before, until in others:
        deadline = min(deadline, until)
        if not_before > first + timedelta(seconds=WAVE) or not_before >= deadline:
            break
        at = not_before
    return at
