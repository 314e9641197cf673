"""Pushing requests, as steps that either client can take."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from cardtoken.contract import Lane
from cardtoken.errors import CardTokenError, InvalidRequestError
from cardtoken.message import (
    AnyRequest,
    Cutter,
    Message,
    Receipt,
    Request,
    checked_reply_to,
    checked_task_id,
    message_of,
    prepared,
)
from cardtoken.steps import BACKOFF, Command, Pause, Steps, ask, ask_all

#: Pushed in one round trip: enough to make the way there and back cheap, little enough to be no burden to Redis.
_WINDOW_MESSAGES: Final = 8
_WINDOW_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far ``enqueue_many`` has come: what Redis has confirmed."""

    requests: int = 0
    messages: int = 0
    #: Seconds spent waiting for queues that were full.
    waited: float = 0.0


def enqueue(
    given: AnyRequest, *, lane: Lane, reply_to: str | None, task_id: str | None, patience: float
) -> Steps[Receipt]:
    """Push one request as a message of its own."""
    reply_to = None if reply_to is None else checked_reply_to(reply_to)
    task_id = checked_task_id(task_id)
    request = prepared(given, datetime.now(UTC), reply_to=reply_to)
    yield from push([message_of([request], lane, task_id)], patience)
    return receipt(request, task_id)


def receipt(request: Request, task_id: str) -> Receipt:
    """The ids of a request that is alone in its message."""
    return Receipt(task_id, request.lookup_id or f"{task_id}:0")


def push(messages: list[Message], patience: float) -> Steps[list[int]]:
    """Push messages in one round trip; return their queues' lengths after each.

    After a connection that broke, all of them are pushed again: which of them arrived cannot be known. The copies
    have the same task ids, by which the service tells that their results are out.
    """
    commands: list[Command] = [("LPUSH", message.queue, message.entry) for message in messages]
    return (yield from ask_all(commands, patience))


class Sender:
    """The state of one ``enqueue_many``."""

    def __init__(
        self,
        *,
        lane: Lane,
        reply_to: str | None,
        max_queue_length: int | None,
        on_progress: Callable[[Progress], object] | None,
        patience: float,
    ) -> None:
        if max_queue_length is not None and max_queue_length < 1:
            raise ValueError("max_queue_length must be at least 1, or None for no limit")
        self.progress = Progress()
        self._reply_to = None if reply_to is None else checked_reply_to(reply_to)
        self._limit = max_queue_length
        self._on_progress = on_progress
        self._patience = patience
        self._cutter = Cutter(lane)
        self._given = 0
        self._ready: list[Message] = []
        self._ready_bytes = 0
        self._lengths: dict[str, int] = {}

    def add(self, given: AnyRequest) -> bool:
        """Add a request. Return whether it is time for :meth:`flush`."""
        try:
            request = prepared(given, datetime.now(UTC), reply_to=self._reply_to)
        except InvalidRequestError as error:
            error.index = self._given
            raise
        self._given += 1
        message = self._cutter.add(request)
        if message is not None:
            self._ready.append(message)
            self._ready_bytes += len(message.entry)
        return len(self._ready) >= _WINDOW_MESSAGES or self._ready_bytes >= _WINDOW_BYTES

    def finish(self) -> Steps[Progress]:
        """Push all that is left."""
        self._ready += self._cutter.rest()
        yield from self.flush()
        return self.progress

    def flush(self) -> Steps[None]:
        """Push the messages that are complete, as soon as their queues have room."""
        by_queue = defaultdict(list)
        for message in self._ready:
            by_queue[message.queue].append(message)
        self._ready, self._ready_bytes = [], 0
        try:
            for queue, messages in by_queue.items():
                while messages:
                    room = yield from self._room(queue, len(messages))
                    yield from self._push(queue, messages[:room])
                    del messages[:room]
        except CardTokenError as error:
            error.add_note(f"{self.progress.requests} requests in {self.progress.messages} messages had been pushed")
            raise

    def _push(self, queue: str, messages: list[Message]) -> Steps[None]:
        lengths = yield from push(messages, self._patience)
        self._lengths[queue] = lengths[-1]
        done = self.progress
        self.progress = replace(
            done,
            requests=done.requests + sum(message.count for message in messages),
            messages=done.messages + len(messages),
        )
        self._tell()

    def _room(self, queue: str, wanted: int) -> Steps[int]:
        """How many more messages the queue may take, once it may take one."""
        if self._limit is None:
            return wanted
        if queue not in self._lengths:
            self._lengths[queue] = yield from ask(("LLEN", queue), self._patience)
        for pause in BACKOFF.pauses():
            if self._lengths[queue] < self._limit:
                break
            began = time.monotonic()
            yield Pause(pause)
            self._lengths[queue] = yield from ask(("LLEN", queue), self._patience)
            self.progress = replace(self.progress, waited=self.progress.waited + time.monotonic() - began)
            self._tell()
        return self._limit - self._lengths[queue]

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)
