"""Keeps this worker's leases, in a thread of its own: an event loop that is busy must not cost it its claims."""

import logging
import threading

from redis import RedisError

from tasks.broker.claims import Claims

logger = logging.getLogger(__name__)

#: Seconds between two looks for the claims of dead workers, at most.
_LONGEST_PAUSE = 1.0


class Keeper:
    """Renews leases well before they run out, looks for those that did, and settles what the loop has not."""

    def __init__(self, claims: Claims, lease: float) -> None:
        self._claims = claims
        self._pause = min(_LONGEST_PAUSE, lease / 5)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin keeping."""
        self._thread.start()

    def stop(self) -> None:
        """End keeping."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def _run(self) -> None:
        away = False
        while not self._stopping.wait(self._pause):
            try:
                self._claims.keep()
                self._claims.settle()
                away = False
            except (RedisError, OSError) as error:
                if not away:
                    logger.warning("leases cannot be renewed: Redis cannot be asked (%s)", type(error).__name__)
                away = True
