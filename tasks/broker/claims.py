"""What this worker has claimed of the queues, and what becomes of it.

A claim is a queue's entry in a worker's hands. It stays in Redis, under an id of our own, until its results are out.
The worker renews its lease. When a lease runs out, another worker takes the claim over: it goes back to its queue.
"""

import itertools
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from redis import Redis

from cardtoken import keys
from cardtoken.other_lists import DEFAULT_PRIORITIES
from cardtoken.scripts import source
from tasks import crash_points
from tasks.broker.leases import Leases
from tasks.broker.settlements import Settlements
from tasks.stores.clock import RedisClock

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """A claim in hand: of which queue, and whether work on it has begun."""

    queue: str
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """One entry in this worker's hands."""

    id: str
    queue: str
    #: How many workers have died with it.
    deaths: int
    #: How often it has been taken, this time included.
    taken: int
    #: Seconds since a worker first took it.
    age: float
    #: Whether a worker wrote the entry, to try again later: it was judged before, and may have grown.
    deferred: bool
    #: Bytes of the entry.
    size: int
    #: None where it is longer than the limit.
    entry: bytes | None = field(repr=False)


class Claims:
    """This worker's claims. Every method may be called from any thread.

    ``lease`` is in seconds, ``longest`` the largest entry that is read, in bytes. ``priorities``: what names of lists
    beside a queue's own end in, to which a client pushes a message with a priority; the most urgent first.
    """

    def __init__(
        self,
        redis: Redis,
        lease: float,
        longest: int,
        clock: RedisClock,
        priorities: Sequence[str] = DEFAULT_PRIORITIES,
    ) -> None:
        self._clock = clock
        self._lists = ("", *priorities)
        self.worker = uuid4().hex
        self._lease = lease
        self._longest = longest
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        #: How many deliveries of each claim are yet to end that have nothing to do with it any more.
        self._void: Counter[str] = Counter()
        self._settlements = Settlements(redis, self.worker)
        #: Those that were taken from, whose delays are repaired.
        self._queues: set[str] = set()
        self._taking = threading.Lock()
        #: Whether Redis may have claims of this worker that it does not know of.
        self._unsure = False
        self._closed = False
        self._leases = Leases(redis, self.worker, lease, clock)
        #: Called when there is something to settle or to claim; the event loop sets it to wake itself.
        self.wake: Callable[[], None] = lambda: None
        self._scripts = {
            name: redis.register_script(source(__package__, name)) for name in ("claim", "delay", "suspect", "recover")
        }
        self._redis = redis

    def __len__(self) -> int:
        """Return how many claims are in hand."""
        return len(self._held)

    def in_hand(self) -> Counter[str]:
        """Return how many claims of each queue are in hand."""
        with self._lock:
            return Counter(held.queue for held in self._held.values())

    def take(self, queues: Sequence[str], count: int) -> tuple[list[Claim], float | None]:
        """Claim up to ``count`` entries. Return them, and the seconds until a delayed one is due, if there is one."""
        redis_keys = [keys.LEASES]
        for queue in queues:
            redis_keys += [keys.given_back(queue), keys.delayed(queue), *(queue + each for each in self._lists)]
        # The prefix and the script's counter make ids that no other call, worker or producer makes.
        prefix = f"{self.worker}-{next(self._numbers)}-"
        args: list[Any] = [self.worker, int(self._lease * 1000), count, prefix, len(self._lists), self._longest]
        with self._taking:
            if self._closed:
                return [], None
            self._queues |= set(queues)
            if self._unsure:
                self._recover()
            self._unsure = True
            due, *rest = self._scripts["claim"](keys=redis_keys, args=[*args, *queues])
            self._unsure = False
            claims = [_claim(fields) for fields in zip(*[iter(rest)] * 7, strict=True)]
            with self._lock:
                self._held.update((claim.id, _Held(claim.queue)) for claim in claims)
        return claims, None if int(due) < 0 else int(due) / 1000

    def _recover(self) -> None:
        """Release what was claimed by a call whose answer did not arrive: it would wait for its lease."""
        with self._lock:
            known = [*self._held, *self._settlements.claim_ids()]
        if back := int(self._scripts["recover"](keys=[keys.LEASES], args=[self.worker, *known])):
            logger.warning("%d messages whose taking was not confirmed went back to their queues", back)

    def begin(self, claim_id: str) -> bool:
        """Whether work on the claim may begin.

        Not where it went back, or its lease ran out, before its turn came; nor where it came back here meanwhile, and
        was begun by its other delivery.
        """
        with self._lock:
            held = self._held.get(claim_id)
            if held is not None and not held.begun:
                held.begun = True
                return True
            self._void[claim_id] += 1
            return False

    def published(self, claim_id: str, task_id: str, indexes: Iterable[int]) -> None:
        """Note that the results of these lookups of a claim are out: if Redis lacks them, the claim does not end."""
        self._settlements.published(claim_id, task_id, indexes)

    def deferred(self, claim_id: str, deferral: str, task_id: str, indexes: Iterable[int]) -> None:
        """Note that the entry of the claim ``deferral`` carries these lookups of a claim."""
        self._settlements.deferred(claim_id, deferral, task_id, indexes)

    def end(self, claim_id: str) -> None:
        """The claim's work is done and published. Costs no round trip: the next :meth:`settle` reports it."""
        with self._lock:
            if claim_id in self._void:  # nothing was done by this delivery, or by another one that ends later
                self._void -= Counter((claim_id,))
                return
            self._held.pop(claim_id, None)
            self._settlements.end(claim_id)
        crash_points.reached("ended")
        self.wake()

    def release(self, claim_id: str) -> None:
        """Put the claim back to the front of its queue, at the next :meth:`settle`."""
        with self._lock:
            self._held.pop(claim_id, None)
            self._settlements.release(claim_id)
        self.wake()

    def release_unstarted(self, claim_id: str) -> None:
        """Release a claim whose message was begun, with nothing done; Celery's acknowledgement of it is ignored."""
        with self._lock:
            self._void[claim_id] += 1
        self.release(claim_id)

    def release_unbegun(self) -> None:
        """Release what waits for a thread: Celery forgets it with a lost connection."""
        with self._lock:
            unbegun = [claim_id for claim_id, held in self._held.items() if not held.begun]
            for claim_id in unbegun:
                del self._held[claim_id]
                self._settlements.release(claim_id)
        self.wake()

    @property
    def unsettled(self) -> bool:
        """Whether :meth:`settle` has anything to report."""
        return bool(self._settlements)

    def settle(self) -> None:
        """Report ended and released claims to Redis; what cannot be reported is kept for the next time."""
        self._settlements.report()

    def forget(self, claim_id: str) -> None:
        """The claim is in other hands by now, with its entry."""
        with self._lock:
            self._held.pop(claim_id, None)
            self._settlements.forget(claim_id)

    def postpone(self, claim: Claim, due: datetime) -> None:
        """Let a claim wait in Redis until it is due."""
        args: list[Any] = [claim.id, self._milliseconds_until(due), claim.queue]
        self._scripts["delay"](keys=[keys.LEASES, keys.delayed(claim.queue), keys.claim(claim.id)], args=args)
        self.forget(claim.id)

    def defer(self, claim_id: str, queue: str, entry: bytes, due: datetime) -> None:
        """Put a new entry that waits in Redis until it is due; once, however often it is said with the same id."""
        args: list[Any] = [claim_id, self._milliseconds_until(due), queue, entry]
        self._scripts["delay"](keys=[keys.LEASES, keys.delayed(queue), keys.claim(claim_id)], args=args)
        self.wake()

    def mark_running(self, claim_id: str, index: int) -> None:
        """Note which lookup of a claim is run next, so that it is known if the worker dies of it."""
        self._scripts["suspect"](keys=[keys.claim(claim_id)], args=[index])

    def suspected(self, claim_id: str) -> int | None:
        """The lookup that was run when the last worker died on the claim, if it had noted one."""
        found: Any = self._redis.hget(keys.claim(claim_id), "suspect")
        return None if found is None else int(found)

    @property
    def pause(self) -> float:
        """Seconds after which :meth:`maintain_leases` is due again: several times within a lease."""
        return min(1.0, self._lease / 5)

    def maintain_leases(self) -> None:
        """Settle, renew this worker's leases, then take over the claims of workers that did not renew theirs.

        To be called from a thread of its own: an event loop that is busy must not cost the worker its claims.
        """
        try:
            self.settle()
        finally:
            with self._lock:
                held = list(self._held)
            self._lose(self._leases.renew(held))
        self._leases.repair(list(self._queues))
        if self._leases.expire():
            self.wake()
        self._clock.measure()

    def _lose(self, claim_ids: set[str]) -> None:
        with self._lock:
            # What ended in the meantime was not lost.
            lost = claim_ids & self._held.keys()
            for claim_id in lost:
                del self._held[claim_id]
        if lost:
            logger.warning("the leases of %d messages ran out while they were worked on", len(lost))

    def _milliseconds_until(self, due: datetime) -> int:
        wait = math.ceil((due - self._clock.now()).total_seconds() * 1000)
        # One more, because Redis' now is without the begun millisecond.
        return wait + 1 if wait > 0 else 0

    def release_all(self) -> None:
        """Claim nothing more, settle, and release every claim that is still in hand."""
        self._closed = True
        with self._taking, self._lock:
            for claim_id in self._held:
                self._settlements.release(claim_id)
            self._held.clear()
        self.settle()


def _claim(fields: Sequence[Any]) -> Claim:
    """One claim of the script's answer."""
    id_, queue, deaths, taken, age, deferred, entry = fields
    read = isinstance(entry, bytes)
    return Claim(
        id=id_.decode(),
        queue=queue.decode(),
        deaths=int(deaths),
        taken=taken,
        age=max(0, age) / 1000,
        deferred=deferred == b"1",
        size=len(entry) if read else entry,
        entry=entry if read else None,
    )
