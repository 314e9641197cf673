"""Points between two steps at which a test can kill the worker. Off unless FAULT_POINT names one."""

import itertools
import os
import signal
from typing import Final

#: Every point there is, in the order in which a lookup meets them.
POINTS: Final = (
    "claimed",  # an entry is claimed, and not judged yet
    "quarantined",  # a malformed one is in quarantine, and not yet forgotten
    "postponed",  # one that is not due waits in Redis
    "begun",  # a task has its message
    "asked",  # the provider has answered, and its outcome is not recorded
    "published",  # results are out, and the message is not acknowledged
    "deferred",  # a retry is on its way, and the message that it replaces is not acknowledged
    "ended",  # acknowledged in this process, and Redis does not know
    "settled",  # Redis knows
)

_armed: str | None = None
_countdown = itertools.count(1)
_nth = 1


def arm(point: str) -> None:
    """Kill this process when it comes to a point for the nth time; ``point`` is ``name`` or ``name:n``."""
    global _armed, _countdown, _nth  # noqa: PLW0603 - one switch for the whole process
    _armed, _, nth = point.partition(":")
    _nth = int(nth or 1)
    _countdown = itertools.count(1)


def reached(point: str) -> None:
    """Tell that a point has been reached."""
    if _armed is not None and point == _armed and next(_countdown) == _nth:
        os.kill(os.getpid(), signal.SIGKILL)
