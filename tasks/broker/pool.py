"""Celery's pool of threads for messages, on a machine that cannot always start one more thread."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import get_ident
from typing import Any, Final, TypeVar

from celery import concurrency
from celery.concurrency import thread

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Ids of the threads that work on a message now.
working: Final[set[int]] = set()


def _counted(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    thread = get_ident()
    working.add(thread)
    try:
        return call(*args, **kwargs)
    finally:
        working.discard(thread)


class MessageThreads(ThreadPoolExecutor):
    """Starts one thread at once, and continues with the threads that it has if no other can be started.

    The standard executor has taken the message by then, and raises: Celery would end the worker.
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, thread_name_prefix="message")
        self._short = False
        super()._adjust_thread_count()

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call it in a thread, which counts as working meanwhile."""
        return super().submit(_counted, call, *args, **kwargs)

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
