"""What is yet to be reported to Redis: which claims have ended, with proof, and which go back to their queues."""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from redis import Redis

from cardtoken import keys
from cardtoken.scripts import source
from tasks import crash_points
from tasks.broker.proof import Proof

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Claims and lookups in one call of the script: it holds up Redis for a few milliseconds at most.
_CHUNK: Final = 200


class Settlements:
    """Gathers what became of a worker's claims. Every method may be called from any thread."""

    def __init__(self, redis: Redis, worker: str) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        #: What has come of claims whose deliveries have not ended yet.
        self._proofs: dict[str, Proof] = {}
        self._ended: deque[tuple[str, Proof]] = deque()
        self._released: deque[str] = deque()
        self._script = redis.register_script(source("tasks.stores", "fence") + source(__package__, "settle"))

    def __bool__(self) -> bool:
        """Return whether there is anything to report."""
        return bool(self._ended or self._released)

    def claim_ids(self) -> list[str]:
        """Return the claims that have ended or were released, and are not reported."""
        return [*(claim_id for claim_id, _ in self._ended), *self._released]

    def published(self, claim_id: str, task_id: str, indexes: Iterable[int]) -> None:
        """Note that the results of these lookups of a claim are out."""
        with self._lock:
            self._proofs.setdefault(claim_id, Proof()).published.update((task_id, index) for index in indexes)

    def deferred(self, claim_id: str, deferral: str, task_id: str, indexes: Iterable[int]) -> None:
        """Note that the entry of the claim ``deferral`` carries these lookups of a claim."""
        with self._lock:
            proof = self._proofs.setdefault(claim_id, Proof())
            proof.deferral, proof.deferred = deferral, frozenset((task_id, index) for index in indexes)

    def end(self, claim_id: str) -> None:
        """Let the claim end, with what was noted of it as the proof."""
        with self._lock:
            self._ended.append((claim_id, self._proofs.pop(claim_id, Proof())))

    def release(self, claim_id: str) -> None:
        """Let the claim go back to its queue."""
        self.forget(claim_id)
        self._released.append(claim_id)

    def forget(self, claim_id: str) -> None:
        """Drop what was noted of a claim that is another worker's by now."""
        with self._lock:
            self._proofs.pop(claim_id, None)

    def report(self) -> None:
        """Report all that has gathered; what cannot be reported is kept. Raises ``redis.RedisError``."""
        while self:
            ended = _some(self._ended, lambda each: 1 + len(each[1]))
            released = _some(self._released, lambda _: 1)
            proofs = [part for claim_id, proof in ended for part in (claim_id, *proof.arguments())]
            try:
                missing = self._script(keys=[keys.LEASES], args=[self._worker, len(ended), *proofs, *released])
            except BaseException:
                self._ended.extendleft(reversed(ended))
                self._released.extendleft(reversed(released))
                raise
            if missing:
                logger.warning("Redis lacks what it had confirmed: %d messages are worked on again", missing)
            crash_points.reached("settled")


def _some(waiting: deque[T], size_of: Callable[[T], int]) -> list[T]:
    """Take from the front what one call of a script may hold."""
    some: list[T] = []
    size = 0
    with contextlib.suppress(IndexError):  # another thread that settles may have taken the last one
        while size < _CHUNK:
            some.append(waiting.popleft())
            size += size_of(some[-1])
    return some
