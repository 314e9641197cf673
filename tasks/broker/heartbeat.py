"""Whether this worker's event loop turns, and what it takes from: written by the loop, read by other threads."""

from time import monotonic

from tasks.telemetry.signs_of_life import SignsOfLife


class LoopHeartbeat:
    """Assignments of single attributes, so that no lock is needed."""

    def __init__(self, signs: SignsOfLife | None = None) -> None:
        self._signs = signs or SignsOfLife()
        self._turned = monotonic()
        self.queues: tuple[str, ...] = ()
        #: The type of the error for which the queues could not be asked last; empty once they could.
        self.trouble = ""

    def beat(self) -> None:
        """The loop has come round."""
        self._turned = monotonic()
        self._signs.give()

    @property
    def loop_stalled_seconds(self) -> float:
        """Seconds since the loop came round last."""
        return monotonic() - self._turned
