"""The name of every Redis key and queue of the service; nothing else spells one. ``key_kinds`` says what each holds.

Scripts in Lua get the keys that are known when they are called as KEYS. Where they read the ids of claims, or the day,
in Redis itself, they put keys together from ``PREFIXES``.
"""

from collections.abc import Mapping
from typing import Final


def task_name(provider: str) -> str:
    """Return the Celery task of a provider."""
    return f"lookup.{provider}"


def queue_name(provider: str, lane: str) -> str:
    """Return the list that holds the messages of a provider's lane."""
    return f"{task_name(provider)}.{lane}"


RESULT_STREAM_PREFIX: Final = "token-records:"


def stream_name(reply_to: str) -> str:
    """Return the stream in which results for ``reply_to`` are published."""
    return RESULT_STREAM_PREFIX + reply_to


DEAD_LETTERS: Final = "lookup:dead-letters"
QUARANTINE: Final = "lookup:quarantine"

CLAIM_PREFIX: Final = "lookup:claim:"
GIVEN_BACK_PREFIX: Final = "lookup:given-back:"
LEASES: Final = "lookup:leases"
CLOCK: Final = "lookup:clock"


def claim(claim_id: str) -> str:
    """Return the hash of one claim."""
    return CLAIM_PREFIX + claim_id


def given_back(queue: str) -> str:
    """Return the list of a queue's released claims; the next one is at its tail."""
    return GIVEN_BACK_PREFIX + queue


def delayed(queue: str) -> str:
    """Return the sorted set of a queue's claims that wait until they are due."""
    return f"lookup:delayed:{queue}"


FENCE_PREFIX: Final = "lookup:fence:"
PUBLISHED_PREFIX: Final = "lookup:published:"
FENCES: Final = "lookup:fences"
FENCE_READERS: Final = "lookup:workers:fence-readers"

RESULT_QUEUES: Final = "lookup:result-queues"
SWEEP_LOCK: Final = "lookup:sweep-lock"
OTHER_LISTS: Final = "lookup:other-lists"
OTHER_LISTS_LOCK: Final = "lookup:other-lists-lock"
WAITING: Final = "lookup:waiting"
WAITING_LOCK: Final = "lookup:waiting-lock"

OPEN_CIRCUITS: Final = "lookup:circuits"
ASKED_CIRCUITS: Final = "lookup:circuits:asked"
FORCED_CIRCUITS: Final = "lookup:circuits:forced"
CIRCUIT_REASONS: Final = "lookup:circuits:reasons"
CIRCUIT_PREFIX: Final = "lookup:circuit:"


def rate(provider: str, account: str) -> str:
    """Return the hash of an account's rate limit."""
    return f"lookup:rate:{provider}:{account}"


WORKERS: Final = "lookup:workers"
LAST_REPORTS: Final = "lookup:workers:last-reports"


def worker(worker_id: str) -> str:
    """Return the hash in which a worker reports."""
    return f"lookup:worker:{worker_id}"


def bulk_pushed(run: str) -> str:
    """Return the set of the task ids that a run of ``cardtoken bulk`` has pushed."""
    return f"lookup:bulk:{run}"


#: Names in Lua → what a key that a script puts together begins with.
PREFIXES: Final[Mapping[str, str]] = {
    "CLAIM": CLAIM_PREFIX,
    "GIVEN_BACK": GIVEN_BACK_PREFIX,
    "FENCE": FENCE_PREFIX,
}
