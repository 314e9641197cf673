"""Names of what this service keeps in Redis for itself. None of them holds anything secret."""

import hashlib
import re
from typing import Final

#: Names of the result queues that have been written to, for the sweep.
RESULT_QUEUES: Final = "lookup:result-queues"
#: Blocked for as long as one worker of the fleet sweeps.
SWEEP_LOCK: Final = "lookup:sweep-lock"
#: Blocked for as long as one worker of the fleet looks for lists that no worker takes from.
OTHER_LISTS_LOCK: Final = "lookup:other-lists-lock"
#: Claim ids by the time, in milliseconds, at which their leases run out.
LEASES: Final = "lookup:leases"
#: Hash: queue → Redis' time in milliseconds when its delays were looked at last, or up to a second ago.
CLOCK: Final = "lookup:clock"


def claim(claim_id: str) -> str:
    """Return the key of a claim's hash: queue, entry, worker, how often it was taken, how many workers died with it."""
    return f"lookup:claim:{claim_id}"


def given_back(queue: str) -> str:
    """Return the key of the list of a queue's released claims; the next one is at its tail."""
    return f"lookup:given-back:{queue}"


def delayed(queue: str) -> str:
    """Return the key of the sorted set of a queue's delayed claims, by the time in milliseconds when they are due."""
    return f"lookup:delayed:{queue}"


#: Seconds for which a second publication of the same task id and index is refused, at least.
FENCE_SECONDS: Final = 86_400
#: Until when, in seconds by Redis' clock, fences are set as the release before looks for them, too.
FENCES: Final = "lookup:fences"
#: Of the workers that there are, those that know the fences of this release.
FENCE_READERS: Final = "lookup:workers:fence-readers"


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def published(task_id: str) -> str:
    """Return the key of the set of the indexes that a task has published, as the release before wrote it.

    An id that is not a UUID stands there as its hash.

    It may say anything: a producer may make the card token the task's id, so as not to ask the same twice.
    """
    plain = task_id if _UUID.fullmatch(task_id) else hashlib.sha256(task_id.encode()).hexdigest()
    return f"lookup:published:{plain}"


def fence(task_id: str, index: int) -> tuple[int, int]:
    """Return the bucket (32 bits) and the member (64 bits, signed) of a lookup's fence.

    Two of a million lookups a day have both in common, so that a result would be lost, once in ten million years.
    """
    digest = hashlib.blake2b(f"{task_id}:{index}".encode(), digest_size=12).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big", signed=True)
