"""Whether this worker's event loop turns, and what it takes from: written by the loop, read by another thread."""

from time import monotonic


class LoopHeartbeat:
    """Assignments of single attributes, so that no lock is needed."""

    def __init__(self) -> None:
        self._turned = monotonic()
        self.queues: tuple[str, ...] = ()

    def beat(self) -> None:
        """The loop has come round."""
        self._turned = monotonic()

    @property
    def loop_stalled_seconds(self) -> float:
        """Seconds since the loop came round last."""
        return monotonic() - self._turned
