"""Celery's pool of threads for messages, on a machine that cannot always start one more."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import concurrency
from celery.concurrency import thread

logger = logging.getLogger(__name__)


class MessageThreads(ThreadPoolExecutor):
    """Has one thread from the start, and goes on with those that there are where no other can be started.

    The standard one has taken the message by then, and raises: Celery would end the worker.
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, thread_name_prefix="message")
        self._short = False
        super()._adjust_thread_count()

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except (RuntimeError, MemoryError):
            if not self._short:
                logger.warning("no thread can be started for messages; %d go on", len(self._threads))
            self._short = True


class TaskPool(thread.TaskPool):
    """Celery's own, with these threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = MessageThreads(self.limit)


def install() -> None:
    """Have Celery's name for the pool, which people type, mean this one."""
    concurrency.ALIASES["threads"] = f"{__name__}:TaskPool"  # type: ignore[attr-defined] # of no stub
