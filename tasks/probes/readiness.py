"""Whether a worker takes messages: it has begun, is not asked to end, Redis answers, and it consumes."""

import threading
from collections.abc import Sequence
from time import monotonic
from typing import Final

from redis import Redis, RedisError

from tasks.broker.heartbeat import LoopHeartbeat

#: Seconds between two questions to Redis.
PAUSE: Final = 1.0
#: Seconds after its last answer for which Redis counts as there.
_ANSWERS_FOR: Final = 4.0


class Readiness:
    """Asks Redis every second, in a thread of its own, so that a probe waits for nothing."""

    def __init__(self, redis: Redis, heartbeat: LoopHeartbeat, stopping: threading.Event) -> None:
        self._redis = redis
        self._heartbeat = heartbeat
        self._stopping = stopping
        self._begun = False
        #: When Redis answered last, and the type of the error that came instead since.
        self._answered = float("-inf")
        self._error = ""

    def begin(self) -> None:
        """The worker consumes from now on."""
        self._begun = True
        self.ask()

    def ask(self) -> None:
        """Ask Redis, for as long as its connections wait for an answer."""
        try:
            self._redis.ping()
        except (RedisError, OSError) as error:
            self._error = type(error).__name__
        else:
            self._answered = monotonic()
            self._error = ""

    @property
    def redis_answers(self) -> bool:
        """Whether Redis has answered within the last seconds."""
        return not self._error and monotonic() - self._answered <= _ANSWERS_FOR

    @property
    def troubles(self) -> Sequence[str]:
        """Why the worker takes no messages, and what to do."""
        if self._stopping.is_set():
            return ["it was asked to stop: it ends once its calls have ended"]
        if not self._begun:
            return ["it starts, or waits for Redis to begin: its log says for what"]
        troubles = []
        if not self.redis_answers:
            why = f"cannot be asked ({self._error})" if self._error else "does not answer"
            troubles.append(f"Redis {why}: bring it back, or correct REDIS_URL; restarting this worker is of no use")
        if not self._heartbeat.queues:
            troubles.append("it takes from no queue: it reconnects, or needs `celery control add_consumer QUEUE`")
        elif self._heartbeat.trouble:
            troubles.append(
                f"its queues cannot be asked ({self._heartbeat.trouble}): its log says more; Redis may be full or a "
                "replica, or the worker lack descriptors"
            )
        return troubles
