"""A job that a worker repeats in a thread of its own, also after errors."""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from redis import RedisError

from cardtoken.error_description import describe_error
from tasks.telemetry import reports
from tasks.telemetry.signs_of_life import Sign, SignsOfLife

logger = logging.getLogger(__name__)


class Periodic:
    """Call ``work`` every ``pause`` seconds. A failure is logged when it begins, and not each time.

    The thread gives ``signs`` that it goes on.
    """

    def __init__(self, name: str, work: Callable[[], None], pause: float, signs: SignsOfLife | None = None) -> None:
        self._signs = signs or SignsOfLife()
        self._name = name
        self._work = work
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. The first call comes after ``pause`` seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no further call."""
        self._stopping.set()

    def join(self, until: float) -> None:
        """Wait until a running call has ended, or until ``until`` (a moment of ``time.monotonic``)."""
        if self._thread.is_alive():
            self._thread.join(timeout=max(0.0, until - monotonic()))

    def _run(self) -> None:
        sign = self._signs.begin(f"the thread `{self._name}`")
        try:
            self._repeat(sign)
            self._signs.end()
        finally:
            self._signs.lose()

    def _repeat(self, sign: Sign) -> None:
        failing = False
        sign.give(self._pause)
        while not self._stopping.wait(self._pause):
            sign.give()
            try:
                self._work()
                failing = False
            except Exception as error:  # noqa: BLE001 - a thread that ended would not be missed
                if not failing:
                    # Redis' own words name keys and hosts; the text of other exceptions may quote anything.
                    words = f"Redis cannot be asked ({type(error).__name__})"
                    expected = isinstance(error, RedisError | OSError)
                    if not expected:
                        reports.unexpected(error)
                    logger.warning("%s: %s; retrying", self._name, words if expected else describe_error(error))
                failing = True
            sign.give(self._pause)
