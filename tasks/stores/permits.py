"""Rate limits, shared by the fleet: permits to call an account of a provider, each for a slot of its own."""

from collections.abc import Mapping
from typing import Any, Final

from redis import Redis, RedisError

from cardtoken.contract import Lane
from cardtoken.keys import rate
from cardtoken.scripts import source
from tasks.calls.admission import Reservation

#: How many seconds ahead slots are reserved; the caller blocks until its slot.
_AHEAD: Final = {Lane.BULK: 0.5, Lane.INTERACTIVE: 1.0}
#: The most slots in one reservation: more would not be used within so short a time, and would keep Redis busy.
_MOST_AT_ONCE: Final = 200


class RateLimits:
    """Calls a second that each account allows, with a share of them kept for the interactive lane.

    ``rates`` has those by provider and account that have a limit. What is kept in Redis is when the next call may be
    made: workers that have taken up another rate already, or not yet, go by the same moments.
    """

    def __init__(self, redis: Redis, rates: Mapping[tuple[str, str], float], interactive_share: float) -> None:
        self._rates = rates
        self._share = interactive_share
        self._script = redis.register_script(source(__package__, "permits"))

    def replace(self, rates: Mapping[tuple[str, str], float]) -> None:
        """Use these rates from now on."""
        self._rates = rates

    def limits(self, provider: str, account: str) -> bool:
        """Return whether this account has a limit."""
        return (provider, account) in self._rates

    def reserve(self, provider: str, account: str, lane: Lane, wanted: int) -> Reservation:
        """Reserve up to ``wanted`` permits. While Redis cannot be reached, calls are made without a limit."""
        limit = self._rates.get((provider, account))
        wanted = min(wanted, _MOST_AT_ONCE)
        if limit is None:  # since a moment ago
            return Reservation((0.0,) * wanted)
        kept = limit * self._share
        args: list[Any] = [lane, wanted, limit - kept, kept, int(_AHEAD[lane] * 1e6), int(max(_AHEAD.values()) * 1e6)]
        try:
            wait, *moments = self._script(keys=[rate(provider, account)], args=args)
        except (RedisError, OSError):
            return Reservation((0.0,) * wanted)
        return Reservation(tuple(moment / 1e6 for moment in moments), int(wait) / 1e6)
