"""Exit statuses, the same for every command."""

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    #: A lookup failed, some of many did, or what was asked about is not well.
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    REDIS = 5
    #: Results that were to come are gone.
    MISSING = 6
    INTERRUPTED = 130


EXITS = (
    "Exit status: 0 done (found, healthy); 1 failed, or some of it; 2 wrong usage; 3 there is no such token or entry; "
    "4 no answer in time; 5 Redis cannot be asked; 6 results are gone; 130 interrupted."
)
