"""Takes up new keys and accounts from files while the worker runs."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cardtoken.error_description import describe_error
from config.errors import Fault
from config.settings import Configuration
from config.source import Source
from tasks.telemetry import metrics, reports

logger = logging.getLogger(__name__)

#: Seconds between two looks at the files. What has changed is taken up by the next look, if it is still the same then.
PAUSE: Final = 1.0
#: Seconds after the end of a look that a refused key led to, during which no other one is made.
_FRESH_SECONDS: Final = 1.0
#: Seconds that a call waits for such a look: a file may be on a host that does not answer.
_LONGEST_WAIT_SECONDS: Final = 1.0


class Reloader:
    """Looks at the files of ``source``, and calls ``take_up`` with the configuration where one has changed."""

    def __init__(
        self,
        source: Source,
        take_up: Callable[[Configuration], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._take_up = take_up
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._flight: threading.Event | None = None
        self._flight_lock = threading.Lock()
        #: What is wrong with the files, in words without their content; empty where nothing is.
        self.trouble = ""
        #: What ``_look`` judged last, of which each judgement has its own.
        self._faults: tuple[Fault, ...] = ()
        self.taken_up_at = datetime.now(UTC)
        metrics.CONFIG_RELOAD_SUCCESSFUL.set(1)
        metrics.CONFIG_RELOAD_SUCCESS_SECONDS.set_to_current_time()

    def look(self) -> None:
        """Take up what has changed and has stayed the same since the last look."""
        with self._lock:
            self._look(settle=False)

    def look_now(self) -> None:
        """Take up what has changed, because a provider refused a key. Return at once if that was done just now.

        Threads that come during a look share it, and wait for it a second at most.
        """
        with self._flight_lock:
            flight = self._flight
            if flight is None:
                if self._monotonic() - self._looked_at < _FRESH_SECONDS:
                    return
                flight = threading.Event()
                try:
                    threading.Thread(target=self._fly, args=(flight,), name="refused key", daemon=True).start()
                except RuntimeError:  # no thread can be started; the periodic look follows
                    return
                self._flight = flight
        flight.wait(_LONGEST_WAIT_SECONDS)

    def _fly(self, flight: threading.Event) -> None:
        try:
            with self._lock:
                self._look(settle=True)
        except Exception as error:  # noqa: BLE001 - the periodic look follows
            reports.unexpected(error)
            # Not the error's text, which may quote what it was given.
            logger.error("looking for new keys ended in %s", describe_error(error))  # noqa: TRY400 - see above
        finally:
            with self._flight_lock:
                self._flight, self._looked_at = None, self._monotonic()
            flight.set()

    def _look(self, *, settle: bool) -> None:
        configuration = self._source.look(settle=settle)
        trouble = "; ".join(f"{fault.variable} {fault.problem}" for fault in self._source.faults)
        if configuration is not None:
            self._take_up(configuration)
            self.taken_up_at = datetime.now(UTC)
            logger.info("new keys or accounts are in use")
        faults, self._faults = self._faults, self._source.faults
        if trouble and faults is not self._faults:
            fixes = "; ".join(fault.fix for fault in self._faults if fault.fix)
            logger.error("the old keys or accounts stay in use: %s (%s)", trouble, fixes)
        if self.trouble and not trouble:
            logger.info("the files of keys and accounts are in order again")
        if configuration is not None or trouble != self.trouble:
            metrics.CONFIG_RELOAD_SUCCESSFUL.set(0 if trouble else 1)
            if not trouble:
                metrics.CONFIG_RELOAD_SUCCESS_SECONDS.set_to_current_time()
        self.trouble = trouble
