"""The leases of claims: this worker's are renewed, and those that other workers did not renew expire."""

import logging
from collections.abc import Sequence
from typing import Any, Final

from redis import Redis

from cardtoken import keys
from cardtoken.scripts import source
from tasks.stores.clock import RedisClock, uptime
from tasks.telemetry import metrics

logger = logging.getLogger(__name__)

#: Claims in one call of a script: it holds up Redis for a few milliseconds at most.
_CHUNK: Final = 200
#: Seconds by which Redis' clock may go back without a delay being shortened.
_UNNOTICED: Final = 2.0


class Leases:
    """The leases in Redis, as the worker of that id looks after them. ``lease`` is in seconds."""

    def __init__(self, redis: Redis, worker: str, lease: float, clock: RedisClock) -> None:
        self._worker = worker
        self._lease = lease
        self._clock = clock
        self._renewed_at: float | None = None
        self._patient_until = 0.0
        self._scripts = {
            name: redis.register_script(source(__package__, name)) for name in ("renew", "expire", "repair")
        }

    def renew(self, claim_ids: Sequence[str]) -> set[str]:
        """Renew the leases of these claims; return those that this worker holds no longer."""
        lost: set[str] = set()
        for start in range(0, len(claim_ids), _CHUNK):
            some = claim_ids[start : start + _CHUNK]
            args: list[Any] = [self._worker, int(self._lease * 1000), *some]
            redis_keys = [keys.LEASES, *map(keys.claim, some)]
            lost.update(id_.decode() for id_ in self._scripts["renew"](keys=redis_keys, args=args))
        return lost

    def repair(self, queues: Sequence[str]) -> None:
        """Let no lease, and no delay of these queues, last longer because Redis' clock went back."""
        args: list[Any] = [int(self._lease * 1000), int(_UNNOTICED * 1000), *queues]
        self._scripts["repair"](keys=[keys.LEASES, keys.CLOCK, *map(keys.delayed, queues)], args=args)

    def expire(self) -> int:
        """Take over the claims of workers that did not renew their leases; return how many. Call it after ``renew``.

        If this worker's last renewal was too long ago, other workers may have been kept from theirs as well, and be
        about to make up for it: for the length of a lease no worker is taken for dead. The same if Redis' clock was set
        forward.
        """
        now = uptime()
        if self._renewed_at is not None and now - self._renewed_at > self._lease / 2:
            self._patient_until = now + self._lease
        self._renewed_at = now
        if now < self._patient_until:
            return 0
        latest = int((self._clock.now().timestamp() + self._lease / 2) * 1000)
        total, found = 0, _CHUNK
        while found == _CHUNK:
            found = int(self._scripts["expire"](keys=[keys.LEASES], args=[_CHUNK, latest]))
            total += max(0, found)
        if total:
            metrics.TAKEOVERS.inc(total)
            logger.warning("%d messages of a worker that died or froze went back to their queues", total)
        if found < 0:  # it is later, by Redis' clock, than it can be: no lease was judged
            self._patient_until = now + self._lease
        return total
