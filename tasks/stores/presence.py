"""Who works: each worker tells Redis every few seconds, so that `cardtoken status` and `health` can be asked."""

import json
import os
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from redis import Redis

from cardtoken import __version__
from cardtoken.contract import format_time
from cardtoken.presence import WORKERS, worker_key

#: Seconds between two tellings, and after which a worker that tells no more is taken to be gone.
PAUSE: Final = 5.0
_EXPIRY: Final = 16


class Presence:
    """What one worker tells. ``state`` answers what changes: queues, messages in hand, how long the loop has stood."""

    def __init__(
        self, redis: Redis, worker: str, name: str, threads: int, state: Callable[[], tuple[Sequence[str], int, float]]
    ) -> None:
        self._redis = redis
        self._worker = worker
        self._state = state
        self._fixed = {
            "name": name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "threads": threads,
            "version": __version__,
            "started_at": format_time(datetime.now(UTC)),
        }

    def tell(self) -> None:
        """Say that this worker is there, and how it is."""
        queues, messages, still = self._state()
        fields: dict[Any, Any] = {
            **self._fixed,
            "queues": json.dumps(list(queues)),
            "messages": messages,
            "still": f"{still:.1f}",
        }
        key = worker_key(self._worker)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hset(key, mapping=fields)
            pipeline.expire(key, _EXPIRY)
            pipeline.sadd(WORKERS, self._worker)
            pipeline.execute()

    def leave(self) -> None:
        """Say that this worker is gone."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(worker_key(self._worker))
            pipeline.srem(WORKERS, self._worker)
            pipeline.execute()
