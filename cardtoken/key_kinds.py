"""Every kind of key in Redis: its name, type, life, who writes it, and what it holds. docs/architecture.md shows it."""

import re
from dataclasses import dataclass
from typing import Final

from cardtoken import keys

LIST, HASH, SET, SORTED_SET, STREAM, STRING = "list", "hash", "set", "zset", "stream", "string"


@dataclass(frozen=True, slots=True)
class KeyKind:
    """One kind of key. ``pattern``: its name, with a word in angle brackets for what varies."""

    pattern: str
    type: str
    kept: str
    holds: str
    written_by: str = "workers"

    def matches(self, key: str) -> bool:
        """Return whether a key is of this kind."""
        parts = [re.escape(part) for part in re.split(r"<[^>]*>", self.pattern)]
        return re.fullmatch(".+".join(parts), key, re.DOTALL) is not None


_LETTERS: Final = "`DEAD_LETTER_RETENTION`, `DEAD_LETTER_MAXLEN`"
_RESULTS: Final = "`RESULT_RETENTION`, `RESULT_STREAM_MAXLEN`"

#: Of two kinds that a key matches, the more exact one comes first.
KINDS: Final = (
    KeyKind(keys.queue_name("<provider>", "<lane>"), LIST, "until claimed",
            "messages, as producers pushed them; with a suffix, those with a Celery priority", "producers"),
    KeyKind(keys.claim("<id>"), HASH, "until its results are out",
            "one claim: entry, queue, worker, when it was first seen, how often taken, how many workers died with it"),
    KeyKind(keys.LEASES, SORTED_SET, "until its claim ends", "claim id → when its lease runs out, in milliseconds"),
    KeyKind(keys.given_back("<queue>"), LIST, "until claimed", "released claims; they come before the queue's entries"),
    KeyKind(keys.delayed("<queue>"), SORTED_SET, "until due", "claim id → when it is due, in milliseconds"),
    KeyKind(keys.CLOCK, HASH, "always", "queue → Redis' time when its delays were looked at last, to the second"),
    KeyKind(keys.stream_name("reply.<id>"), STREAM, "300 s after its last result", "results of a one-off reply queue"),
    KeyKind(keys.stream_name("<reply_to>"), STREAM, _RESULTS, "results"),
    KeyKind(keys.DEAD_LETTERS, STREAM, _LETTERS, "lookups that failed for a reason that an operator can act on"),
    KeyKind(keys.QUARANTINE, STREAM, _LETTERS, "queue entries that are not messages, byte for byte"),
    KeyKind(f"{keys.FENCE_PREFIX}<day>:<level>:<bucket>", SET, "24 to 48 hours",
            "whole numbers of 64 bits, hashes of the task ids and indexes whose results are out (`fence.lua`)"),
    KeyKind(f"{keys.PUBLISHED_PREFIX}<task id>", SET, "24 hours",
            "the same as the release before keeps it, while one of its workers is there and for a day after"),
    KeyKind(keys.FENCES, STRING, "always", "until when both of these are written, in Redis' seconds"),
    KeyKind(keys.FENCE_READERS, SET, "while they live", "the workers that need only the former"),
    KeyKind(keys.RESULT_QUEUES, SET, "while they exist", "names of result queues, for the sweep"),
    KeyKind(keys.SWEEP_LOCK, STRING, "up to 54 s", "one worker of the fleet sweeps at a time"),
    KeyKind(keys.OTHER_LISTS, HASH, "while they exist", "list named like a queue → the queue that it is taken with"),
    KeyKind(keys.OTHER_LISTS_LOCK, STRING, "4.5 s", "one worker of the fleet looks for such lists at a time"),
    KeyKind(keys.WAITING, STRING, "60 s after its last count",
            "queue → its messages and lookups when they were counted last, what that took, and when it was, as JSON"),
    KeyKind(keys.WAITING_LOCK, STRING, "60 s at most", "one worker of the fleet counts at a time"),
    KeyKind(f"{keys.CIRCUIT_PREFIX}<provider>:<account>", HASH, "a day after its last call; while open",
            "counts of how an account's calls ended"),
    KeyKind(keys.OPEN_CIRCUITS, SORTED_SET, "while open", "circuit → when one lookup may try again, in milliseconds"),
    KeyKind(keys.ASKED_CIRCUITS, HASH, "while open", "circuit → by which answer its provider asked to be left alone"),
    KeyKind(keys.FORCED_CIRCUITS, SORTED_SET, "until closed", "circuit that an operator holds open → until when",
            "`cardtoken circuit open`"),
    KeyKind(keys.CIRCUIT_REASONS, HASH, "until closed", "such a circuit → why, since when", "`cardtoken circuit open`"),
    KeyKind(keys.rate("<provider>", "<account>"), HASH, "an hour after its last call", "when each lane's next slot is"),
    KeyKind(keys.WORKERS, SET, "while they live", "ids of the workers"),
    KeyKind(keys.worker("<id>"), HASH, "16 s after its last report", "how a worker is; it reports every five seconds"),
    KeyKind(keys.LAST_REPORTS, HASH, "a day after its last report",
            "worker id → when it reported last, and who it is; a worker that ends removes itself"),
    KeyKind(keys.bulk_pushed("<run>"), SET, "30 days, or until the run ends", "task ids that a run has pushed",
            "`cardtoken bulk`"),
    KeyKind("_kombu.binding.<exchange>", SET, "always", "Celery's own: the lists that an exchange leads to", "Celery"),
    KeyKind("_kombu.binding_permanent.<exchange>", SET, "always", "the same, as its newer releases keep it", "Celery"),
    KeyKind("_kombu.binding_deadlines", SORTED_SET, "always", "until when such a list is led to", "Celery"),
)  # fmt: skip


def kind_of(key: str) -> KeyKind | None:
    """Return the kind of a key; None for one that is not the service's."""
    return next((kind for kind in KINDS if kind.matches(key)), None)
