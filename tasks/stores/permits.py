"""Rate limits, kept by the fleet together: permits to call an account of a provider, each for its moment."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from redis import Redis, RedisError

from cardtoken.contract import Lane
from tasks.calls.admission import Reservation

#: How many seconds ahead permits are given: whoever has one waits for its moment, and holds a thread meanwhile.
_AHEAD: Final = {Lane.BULK: 0.5, Lane.INTERACTIVE: 1.0}
#: Reservation asked for at once; more would be of no use within so short a time, or a long script.
_AT_ONCE: Final = 200


class RateLimits:
    """What each provider allows in calls a second and account, with a share of it kept for the interactive lane."""

    def __init__(self, redis: Redis, rates: Mapping[str, float], interactive_share: float) -> None:
        self._rates = rates
        self._share = interactive_share
        self._script = redis.register_script(files(__package__).joinpath("permits.lua").read_text(encoding="utf-8"))

    def limits(self, provider: str) -> bool:
        """Whether this provider has a limit."""
        return provider in self._rates

    def reserve(self, provider: str, account: str, lane: Lane, wanted: int) -> Reservation:
        """Up to ``wanted`` permits. Where Redis cannot answer, calls go on without."""
        rate = self._rates[provider]
        kept = rate * self._share
        wanted = min(wanted, _AT_ONCE)
        args: list[Any] = [lane, wanted, rate - kept, kept, int(_AHEAD[lane] * 1e6), int(max(_AHEAD.values()) * 1e6)]
        try:
            wait, *moments = self._script(keys=[f"lookup:rate:{provider}:{account}"], args=args)
        except (RedisError, OSError):
            return Reservation((0.0,) * wanted)
        return Reservation(tuple(moment / 1e6 for moment in moments), int(wait) / 1e6)
