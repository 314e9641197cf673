"""``/livez`` and ``/readyz`` of a worker."""

import json
import threading
from collections.abc import Callable, Hashable, Sequence
from http import HTTPStatus
from time import monotonic

from redis import Redis

from tasks.broker.heartbeat import LoopHeartbeat
from tasks.periodic import Periodic
from tasks.probes.liveness import Liveness
from tasks.probes.readiness import PAUSE, Readiness
from tasks.probes.server import ProbeServer
from tasks.telemetry.signs_of_life import SignsOfLife


class Probes:
    """Serves both from ``serve`` on, that is also while the worker starts and waits for Redis."""

    def __init__(self, signs: SignsOfLife, heartbeat: LoopHeartbeat, redis: Redis, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._liveness = Liveness(signs, monotonic())
        self._readiness = Readiness(redis, heartbeat, stopping)
        self._asking = Periodic("probes", self._readiness.ask, PAUSE, signs)

    def serve(self, host: str, port: int) -> None:
        """Answer at that address. Raises ``OSError`` where it cannot be had."""
        ProbeServer(self._answer, self._tick).start(host, port)

    def consuming(self, progress: Callable[[], Hashable], longest_call: float) -> None:
        """The worker is ready; the arguments are those of :meth:`Liveness.watch_work`."""
        self._liveness.watch_work(progress, longest_call)
        self._readiness.begin()
        self._asking.start()

    def _tick(self) -> None:
        self._liveness.tick(monotonic(), redis_answers=self._readiness.redis_answers)

    def _answer(self, path: str) -> tuple[HTTPStatus, bytes] | None:
        # A worker that stops has a bound of its own.
        stopped = [] if self._stopping.is_set() else self._liveness.troubles
        match path:
            case "/livez":
                return _document("live", stopped)
            case "/readyz":
                return _document("ready", [*stopped, *self._readiness.troubles])
            case _:
                return None


def _document(name: str, troubles: Sequence[str]) -> tuple[HTTPStatus, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
    return status, json.dumps({name: not troubles, "reasons": list(troubles)}).encode()
