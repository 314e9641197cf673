"""Celery's pool of threads for messages, on a machine that cannot always start one more thread."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import concurrency
from celery.concurrency import thread

logger = logging.getLogger(__name__)


class MessageThreads(ThreadPoolExecutor):
    """Starts one thread at once, and continues with the threads that it has if no other can be started.

    The standard executor has taken the message by then, and raises: Celery would end the worker.
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
                logger.warning("no other thread can be started for messages; working with %d", len(self._threads))
            self._short = True


class TaskPool(thread.TaskPool):
    """Celery's own pool, with these threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = MessageThreads(self.limit)


def install() -> None:
    """Let ``threads``, the name that operators type for Celery's pool, mean this one."""
    concurrency.ALIASES["threads"] = f"{__name__}:TaskPool"  # type: ignore[attr-defined] # of no stub
