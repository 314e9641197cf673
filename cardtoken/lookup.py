"""One lookup and the wait for its result, as steps that either client can take."""

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from cardtoken.contract import REPLY_PREFIX, Lane, LookupResult, Status
from cardtoken.errors import (
    CardTokenError,
    InvalidRequestError,
    LookupFailedError,
    LookupTimeoutError,
    RedisUnavailableError,
)
from cardtoken.keys import stream_name
from cardtoken.message import AnyRequest, message_of, prepared
from cardtoken.producer import push, receipt
from cardtoken.steps import BACKOFF, Command, Pause, Steps, ask
from cardtoken.stream_entries import of_one_stream, read_result


def lookup(given: AnyRequest, *, timeout: float, lane: Lane, wait: float, patience: float) -> Steps[LookupResult]:
    """Push a request and wait for its result in a queue of its own; see ``Client.lookup``.

    ``wait`` is for how many seconds at a time Redis is asked to hold the answer back.
    """
    if timeout <= 0:
        raise ValueError("timeout must be more than 0 seconds")
    end = time.monotonic() + timeout
    now = datetime.now(UTC)
    reply_to = f"{REPLY_PREFIX}{uuid4().hex}"
    task_id = str(uuid4())
    request = prepared(given, now, reply_to=reply_to, deadline=now + timedelta(seconds=timeout))
    if request.reply_to != reply_to:
        raise InvalidRequestError("reply_to: lookup() has a reply queue of its own; leave it out, or use enqueue()")
    message = message_of([request], lane, task_id)
    waiting = _Waiting(stream_name(reply_to))
    try:
        yield from push([message], min(patience, timeout))
        result = yield from waiting.result(end, wait)
    except RedisUnavailableError as trouble:
        waiting.trouble = trouble
        raise
    finally:
        yield from waiting.tidy()
    if result is None:
        error = LookupTimeoutError(message.queue, timeout, task_id, receipt(request, task_id).lookup_id)
        raise error from waiting.trouble
    if result.status == Status.FAILED and result.error is not None:
        raise LookupFailedError(result, result.error)
    return result


class _Waiting:
    """A one-off reply queue, from the push to its end."""

    def __init__(self, stream: str) -> None:
        self._stream: Final = stream
        #: Why Redis could not be asked, the last time that it was tried.
        self.trouble: RedisUnavailableError | None = None

    def result(self, end: float, wait: float) -> Steps[LookupResult | None]:
        """The result; None once the clock shows ``end``."""
        tries = BACKOFF.pauses()
        while (left := end - time.monotonic()) > 0:
            block = max(1, int(min(left, wait) * 1000))
            command: Command = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", self._stream, "0")
            try:
                entries = of_one_stream((yield from ask(command, 0)))
            except RedisUnavailableError as error:
                self.trouble = error
                yield Pause(min(left, next(tries)))
                continue
            self.trouble, tries = None, BACKOFF.pauses()
            for _, fields in entries:
                return read_result(fields or {})
        return None

    def tidy(self) -> Steps[None]:
        """Delete the queue, unless Redis is away: it expires by itself."""
        if self.trouble is None:
            with contextlib.suppress(CardTokenError):
                yield from ask(("UNLINK", self._stream), 0, tidying=True)
