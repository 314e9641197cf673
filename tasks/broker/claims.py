"""What this worker has claimed of the queues, and what becomes of it.

A claim is a queue's entry in a worker's hands. It stays in Redis, under an id of our own, until its results are out;
the worker renews its lease, and when a lease runs out the claim goes back to its queue, for another worker.
"""

import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final
from uuid import uuid4

from redis import Redis

from tasks import faults
from tasks.stores import keys

logger = logging.getLogger(__name__)

#: kombu's separator and steps: a client that gives a message a priority pushes it to one of these lists.
PRIORITY_LISTS: Final = ("", *(f"\x06\x16{step}" for step in (3, 6, 9)))
#: What the ids of entries begin with that this service has deferred; a worker's own are hexadecimal.
_DEFERRED: Final = "deferred-"
#: Claims in one call of a script: it holds up Redis for a few milliseconds at most.
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class Claim:
    """One entry in this worker's hands."""

    id: str
    queue: str
    #: How many workers have died with it.
    deaths: int
    #: How often it has been taken, this time included.
    taken: int
    entry: bytes = field(repr=False)

    @property
    def deferred(self) -> bool:
        """Whether this service wrote the entry itself; what it defers was judged before, and may have grown."""
        return self.id.startswith(_DEFERRED)


class Claims:
    """This worker's claims. Every method may be called from any thread."""

    def __init__(self, redis: Redis, lease: float) -> None:
        self.worker = uuid4().hex
        self._redis = redis
        self._lease = int(lease * 1000)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._ended: deque[str] = deque()
        self._returned: deque[str] = deque()
        #: Called when there is something to settle or to claim; the event loop sets it to wake itself.
        self.wake: Callable[[], None] = lambda: None
        scripts = {
            name: redis.register_script(files(__package__).joinpath(f"{name}.lua").read_text())
            for name in ("claim", "settle", "keep", "delay")
        }
        self._claim, self._settle = scripts["claim"], scripts["settle"]
        self._keep, self._delay = scripts["keep"], scripts["delay"]

    def take(self, queues: Sequence[str], count: int) -> tuple[list[Claim], float | None]:
        """Claim up to ``count`` entries; answers them, and the seconds until a delayed one is due, if there is one."""
        redis_keys = [keys.LEASES]
        for queue in queues:
            redis_keys += [keys.given_back(queue), keys.delayed(queue), *(queue + step for step in PRIORITY_LISTS)]
        # The prefix and its counter make ids that no other call, worker or producer makes.
        args: list[Any] = [
            self.worker,
            self._lease,
            count,
            f"{self.worker}-{next(self._numbers)}-",
            0,
            len(PRIORITY_LISTS),
        ]
        due, *rest = self._claim(keys=redis_keys, args=[*args, *queues])
        claims = [
            Claim(id_.decode(), queue.decode(), int(deaths), int(taken), entry)
            for id_, queue, deaths, taken, entry in zip(*[iter(rest)] * 5, strict=True)
        ]
        with self._lock:
            self._held.update(claim.id for claim in claims)
        return claims, None if int(due) < 0 else int(due) / 1000

    def end(self, claim_id: str) -> None:
        """The claim's work is done and published. Costs no round trip: the next :meth:`settle` says it."""
        self._ended.append(claim_id)
        faults.reached("ended")
        self.wake()

    def give_back(self, claim_id: str) -> None:
        """The claim goes back to the front of its queue, at the next :meth:`settle`."""
        self._returned.append(claim_id)
        self.wake()

    @property
    def unsettled(self) -> bool:
        """Whether :meth:`settle` has anything to say."""
        return bool(self._ended or self._returned)

    def settle(self) -> None:
        """Tell Redis what has ended and what goes back; where it cannot be told, that is kept for the next time."""
        while self.unsettled:
            ended = _some(self._ended)
            returned = _some(self._returned)
            try:
                self._settle(keys=[keys.LEASES], args=[self.worker, len(ended), *ended, *returned])
            except BaseException:
                self._ended.extendleft(reversed(ended))
                self._returned.extendleft(reversed(returned))
                raise
            faults.reached("settled")
            with self._lock:
                self._held.difference_update(ended, returned)

    def forget(self, claim_id: str) -> None:
        """The claim is in other hands by now, with its entry."""
        with self._lock:
            self._held.discard(claim_id)

    def postpone(self, claim: Claim, due: datetime) -> None:
        """Let a claim wait in Redis until it is due."""
        self._delay(
            keys=[keys.LEASES, keys.delayed(claim.queue)], args=[claim.id, _milliseconds_until(due), claim.queue]
        )
        self.forget(claim.id)

    def defer(self, queue: str, entry: bytes, due: datetime) -> None:
        """Put a new entry that waits in Redis until it is due."""
        args: list[Any] = [_DEFERRED + uuid4().hex, _milliseconds_until(due), queue, entry]
        self._delay(keys=[keys.LEASES, keys.delayed(queue)], args=args)
        self.wake()

    def suspect(self, claim_id: str, index: int) -> None:
        """Note which lookup of a claim is run next, so that it is known if the worker dies of it."""
        self._redis.hset(keys.claim(claim_id), "suspect", index)

    def suspected(self, claim_id: str) -> int | None:
        """The lookup that was run when the last worker died on the claim, if it had noted one."""
        found: Any = self._redis.hget(keys.claim(claim_id), "suspect")
        return None if found is None else int(found)

    def keep(self) -> None:
        """Renew this worker's leases, and give back the claims of dead workers."""
        with self._lock:
            held = list(self._held)
        for start in range(0, max(1, len(held)), _CHUNK):
            chunk = held[start : start + _CHUNK]
            found, *lost = self._keep(keys=[keys.LEASES], args=[self.worker, self._lease, *chunk])
            if found:
                logger.warning("%d messages of a worker that died or froze went back to their queues", found)
                self.wake()
            if lost:
                ids = {id_.decode() for id_ in lost}
                with self._lock:
                    # What ended in the meantime was not lost.
                    ids &= self._held
                    self._held -= ids
                if ids:
                    logger.warning("the leases of %d messages ran out while they were worked on", len(ids))

    def give_all_back(self) -> int:
        """Settle, and give back everything that is still held; answers how many that were."""
        self.settle()
        with self._lock:
            self._returned.extend(self._held)
        count = len(self._returned)
        self.settle()
        return count


def _some(waiting: deque[str]) -> list[str]:
    some: list[str] = []
    with contextlib.suppress(IndexError):  # whoever else settles may have taken the last one
        while len(some) < _CHUNK:
            some.append(waiting.popleft())
    return some


def _milliseconds_until(due: datetime) -> int:
    """From now: a difference between Redis' clock and ours must not become a wait, nor take one away."""
    return max(0, int((due - datetime.now(UTC)).total_seconds() * 1000))
