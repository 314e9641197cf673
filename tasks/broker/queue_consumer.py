"""Brings claims from the queues into the worker, within its event loop.

It waits without popping: on a connection for each queue, ``BLMOVE queue queue RIGHT RIGHT`` moves an entry onto its own
place, which changes nothing and returns as soon as there is one. Then the claim script takes as many entries as the
worker has room for, in one round trip.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError, ResponseError

from cardtoken.backoff import Backoff
from tasks import crash_points
from tasks.broker.claims import Claim, Claims
from tasks.broker.heartbeat import LoopHeartbeat
from tasks.broker.queue_limits import QueueLimits

logger = logging.getLogger(__name__)

#: Seconds after which Redis ends a wait without an entry, and a new one begins: a server that is silent is away.
_WAIT = 5
#: Seconds that the answer may be late before the connection is given up.
_GRACE = 3.0
#: Seconds between two looks at the queues when nothing wakes the loop: for priorities, and for what others released.
_LOOK = 1.0
#: Between two attempts while Redis cannot be asked.
_BACKOFF: Final = Backoff(0.1, 1.0)
#: Seconds after which trouble that lasts is logged again.
_LOG_AGAIN = 60.0
#: Entries claimed in one round trip at most.
_BATCH = 100


class _Wait:
    """One connection that waits for one queue."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self._pool = redis.connection_pool
        self._connection: Any = self._pool.get_connection()
        self._queue = queue
        self._since: float | None = None
        self._wrong = False

    def fileno(self) -> int | None:
        """Return the socket's file descriptor; None if it is closed, and its number may be another socket's."""
        sock = self._connection._sock  # noqa: SLF001 - redis-py has no other name for it
        return None if sock is None else sock.fileno()

    def begin(self) -> None:
        """Ask, unless an answer is still to come."""
        if self._since is None:
            self._connection.send_command("BLMOVE", self._queue, self._queue, "RIGHT", "RIGHT", _WAIT)
            self._since = monotonic()

    def finish(self) -> bool:
        """Read the answer; return whether there is an entry."""
        self._since = None
        try:
            return self._connection.read_response() is not None
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            # Another program has set a key of the queue's name. The other queues go on.
            if not self._wrong:
                logger.error("%s is not a list, nothing can be pushed to it: delete that key", self._queue)  # noqa: TRY400
            self._wrong = True
            return False

    def check(self) -> None:
        """Raise ``redis.ConnectionError`` if the answer is overdue: a half-open connection never becomes readable."""
        if self._since is not None and monotonic() - self._since > _WAIT + _GRACE:
            raise RedisConnectionError("Redis has not answered in time")

    def close(self) -> None:
        self._connection.disconnect()
        self._pool.release(self._connection)


class QueueConsumer:
    """Takes claims for one consumer, as many as it has room for."""

    def __init__(
        self,
        redis: Redis,
        claims: Claims,
        heartbeat: LoopHeartbeat,
        queue_limits: QueueLimits,
        *,
        hub: Any,
        room: Callable[[], int | None],
        slots: int,
    ) -> None:
        self._queue_limits = queue_limits
        self._slots = slots
        self._redis = redis
        self._claims = claims
        self._heartbeat = heartbeat
        self._hub = hub
        self._room = room
        self._waits: dict[str, _Wait] = {}
        self._consumers: dict[str, Callable[[Claim], None]] = {}
        self._look = True
        self._woken = False
        self._due: Any = None
        self._pauses = _BACKOFF.pauses()
        self._logged_at = -_LOG_AGAIN
        self._not_before = 0.0
        self._timer = hub.call_repeatedly(_LOOK, self._tick)
        hub.on_tick.add(self.turn)
        claims.wake = self._wake

    def consume(self, queue: str, consumer: Callable[[Claim], None]) -> None:
        """Begin to take from a queue."""
        self._consumers[queue] = consumer
        self._heartbeat.queues = tuple(sorted(self._consumers))
        self._look = True

    def cancel(self, queue: str) -> None:
        """Take no more from a queue."""
        self._consumers.pop(queue, None)
        self._heartbeat.queues = tuple(sorted(self._consumers))
        self._stop_waiting(queue)

    def close(self) -> None:
        """Take no more from any queue."""
        if self._claims.wake == self._wake:  # else another consumer has taken over already
            self._claims.wake = lambda: None
        self._hub.on_tick.discard(self.turn)
        self._timer.cancel()
        if self._due is not None:
            self._due.cancel()
        for queue in list(self._consumers):
            self.cancel(queue)

    def turn(self) -> None:
        """One turn of the event loop: settle what has ended, then take what there is room for.

        Trouble with Redis, of any kind, is waited out here: the worker's other connections look after themselves.
        """
        self._woken = False
        if monotonic() < self._not_before:
            return
        try:
            self._turn()
        except (RedisError, OSError) as error:
            self._wait_out(error)

    def _wait_out(self, error: Exception) -> None:
        self._heartbeat.trouble = type(error).__name__
        if monotonic() - self._logged_at > _LOG_AGAIN:
            self._logged_at = monotonic()
            logger.warning("queues cannot be asked (%s: %.200s); retrying", type(error).__name__, error)
        for queue in list(self._waits):
            self._stop_waiting(queue)
        self._look = True
        pause = next(self._pauses)
        self._not_before = monotonic() + pause
        self._hub.call_later(pause + 0.01, self._wake_up)

    def _turn(self) -> None:
        if self._claims.unsettled:
            self._claims.settle()
            self._look = True
        if not self._look or not self._consumers:
            return
        room = self._room()
        if room == 0:
            return
        # Each turn begins with another queue: one that is never empty must not starve the others.
        queues = list(self._consumers)
        self._consumers[queues[0]] = self._consumers.pop(queues[0])
        self._look = False
        due: float | None = None
        open_: list[str] = []
        for group, count in self._shares(queues, min(room or _BATCH, _BATCH)):
            claims, soon = self._claims.take(group, count)
            self._pauses = _BACKOFF.pauses()
            self._heartbeat.trouble = ""
            due = min((each for each in (due, soon) if each is not None), default=None)
            if len(claims) == count:
                self._look = True
            else:
                open_ += group
            self._hand_on(claims)
        if self._look:
            # There may be more, and room for it; the loop comes round at once.
            self._wake()
            return
        for queue in open_:
            self._wait_for(queue)
        if due is not None and due < _LOOK:
            if self._due is not None:
                self._due.cancel()
            self._due = self._hub.call_later(due, self._wake_up)

    def _shares(self, queues: list[str], room: int) -> list[tuple[list[str], int]]:
        """Return groups of queues to claim from together, and how many messages at most.

        Some room is left for those queues that have little in hand, so that messages of one provider that hang, or a
        backlog of the one lane, do not take the threads of all. Queues with a limit have shares of their own. What is
        not claimed now waits in Redis, and is looked at again when something ends, or in a second.
        """
        in_hand = self._claims.in_hand()
        kept = max(1, self._slots // (4 * len(queues))) if self._slots >= 2 * len(queues) else 0
        lacking = {queue: max(0, kept - in_hand[queue]) for queue in queues}
        limits = {queue: self._queue_limits.allowance(queue) for queue in queues}
        room -= sum(lacking.values())
        free = [queue for queue in queues if limits[queue] is None]
        shares = [(free, room)] if room > 0 else [([queue], lacking[queue]) for queue in free]
        for queue, limit in limits.items():
            if limit is not None:
                shares.append(([queue], min(limit - in_hand[queue], max(room, lacking[queue]))))
        return [(group, count) for group, count in shares if group and count > 0]

    def _hand_on(self, claims: list[Claim]) -> None:
        for number, claim in enumerate(claims):
            crash_points.reached("claimed")
            consumer = self._consumers.get(claim.queue)
            try:
                if consumer is None:
                    self._claims.release(claim.id)
                else:
                    consumer(claim)
            except (RedisError, OSError):
                for unseen in claims[number:]:
                    self._claims.release(unseen.id)
                raise

    def _wait_for(self, queue: str) -> None:
        wait = self._waits.get(queue)
        if wait is None:
            wait = self._waits[queue] = _Wait(self._redis, queue)
            self._hub.add_reader(wait.fileno(), self._readable, queue, wait)
        wait.begin()

    def _stop_waiting(self, queue: str) -> None:
        wait = self._waits.pop(queue, None)
        if wait is not None:
            if (number := wait.fileno()) is not None:
                self._hub.remove_reader(number)
            wait.close()

    def _wake(self) -> None:
        """Let the event loop turn; may be called from any thread."""
        if not self._woken:
            self._woken = True
            self._hub.call_soon(self._wake_up)

    def _wake_up(self) -> None:
        self._look = True

    def _tick(self) -> None:
        self._look = True
        self._heartbeat.beat()
        try:
            for wait in self._waits.values():
                wait.check()
        except RedisError as error:
            self._wait_out(error)

    def _readable(self, queue: str, wait: _Wait) -> None:
        try:
            if self._waits.get(queue) is wait and wait.finish():
                self._look = True
        except (RedisError, OSError) as error:
            self._wait_out(error)
