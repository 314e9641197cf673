"""Celery's consumer, without what this service has no use for."""

import logging
from typing import Any

from celery.worker import consumer

from tasks import ending

logger = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    """Consumes lookup queues alone, and releases what waits for a rate limit when that changes.

    Workers neither ask each other for news at their start, which takes a second (mingle), nor listen to each other's
    events (gossip): nothing here depends on either, and each is a door for messages of others.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["worker_options"] = {
            **(kwargs.get("worker_options") or {}),
            "without_gossip": True,
            "without_mingle": True,
        }
        super().__init__(*args, **kwargs)

    def start(self) -> None:
        """Connect and consume. Until it is connected nothing is in hand, so a signal ends the process at once."""
        ending.take_signals()
        super().start()

    def add_task_queue(self, queue: str, *args: Any, **kwargs: Any) -> None:
        """Consume from a queue, if it is one of this service's."""
        if queue not in self.app.amqp.queues:
            logger.error("%.255r is not a queue of this service: it is not consumed", queue)
            return
        super().add_task_queue(queue, *args, **kwargs)

    def reset_rate_limits(self) -> None:
        """Put new limits into force; what waits for an old one waits for the new one, or runs."""
        waiting = [(name, bucket) for name, bucket in self.task_buckets.items() if bucket]
        super().reset_rate_limits()
        for name, bucket in waiting:
            new = self.task_buckets[name]
            while bucket.contents:
                request, tokens = bucket.pop()
                if new is None:
                    self._limit_move_to_pool(request)
                else:
                    new.add((request, tokens))
            if new is not None:
                self._schedule_bucket_request(new)
