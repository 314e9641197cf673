"""Reading a result queue in a consumer group, as steps that either client can take."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cardtoken.contract import LookupResult
from cardtoken.errors import (
    CardTokenError,
    ClosedError,
    RedisRefusedError,
    RedisUnavailableError,
    UnreadableResultError,
)
from cardtoken.keys import stream_name
from cardtoken.message import checked_reply_to
from cardtoken.refusals import may_pass
from cardtoken.steps import BACKOFF, Command, Pause, Steps, ask
from cardtoken.stream_entries import Entry, claimed, of_one_stream, read_result

logger = logging.getLogger(__name__)

#: Seconds after which what was handled is acknowledged though more of the batch is left.
_ACKNOWLEDGE_AFTER: Final = 1.0
#: Seconds that a reader which leaves insists at most.
_LAST_PATIENCE: Final = 10.0
#: Seconds between two looks for what dead consumers left, at least: what is new has to have its turn.
_CLAIM_AT_MOST_EVERY: Final = 0.1
#: What Redis says when the group, or its stream, is gone.
_GONE: Final = {"NOGROUP", "UNBLOCKED"}


class Flag(Protocol):
    """A ``threading.Event``, an ``asyncio.Event``."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What to read, and how; times are in seconds. See ``Client.results``."""

    reply_to: str
    group: str
    consumer: str
    batch: int
    block: float
    claim_idle: float
    start: str
    follow: bool
    stop: Flag | None
    before_acknowledging: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        checked_reply_to(self.reply_to)
        if not self.group or not self.consumer:
            raise ValueError("group and consumer must not be empty")
        if self.batch < 1:
            raise ValueError("batch must be at least 1")
        if self.block <= 0 or self.claim_idle <= 0:
            raise ValueError("block and claim_idle must be more than 0 seconds")


class ResultReader:
    """One consumer of a group: hands out results one by one and acknowledges those that were handled."""

    def __init__(self, subscription: Subscription, patience: float) -> None:
        self._what: Final = subscription
        self._stream: Final = stream_name(subscription.reply_to)
        self._patience = patience
        self._reached = False
        self._away = False
        self._has_group = False
        self._start = subscription.start
        #: Where to go on in what was delivered to this consumer before and not acknowledged; None: nothing is left.
        self._pending: str | None = "0"
        self._cursor = "0-0"
        self._claim_at = 0.0
        self._buffer: deque[tuple[str, LookupResult]] = deque()
        self._filled_at = 0.0
        self._in_hand: str | None = None
        self._done: list[str] = []
        self._acknowledged_at = time.monotonic()

    def next(self) -> Steps[LookupResult | None]:
        """The next result; None at the end: nothing more to read, told to stop, or the client is closed."""
        try:
            return (yield from self._next())
        except ClosedError:
            return None

    def handled(self) -> None:
        """The result that :meth:`next` gave last is handled."""
        if self._in_hand is not None:
            self._done.append(self._in_hand)
            self._in_hand = None

    def leave(self) -> Steps[None]:
        """Acknowledge what was handled, also where the client is closed by now."""
        try:
            yield from self._acknowledge(min(self._patience, _LAST_PATIENCE))
        except CardTokenError:
            logger.warning("%d handled results are not acknowledged: they will be delivered again", len(self._done))

    def _next(self) -> Steps[LookupResult | None]:
        tries, end = BACKOFF.pauses(), time.monotonic() + self._patience
        while not (self._what.stop and self._what.stop.is_set()):
            try:
                if self._is_stale():
                    self._buffer.clear()
                    self._pending = "0"
                if not self._buffer or self._is_time_to_acknowledge():
                    yield from self._acknowledge(0)
                if self._buffer:
                    self._in_hand, result = self._buffer.popleft()
                    return result
                if not (yield from self._fill()):
                    return None
                if self._away:
                    logger.info("reading %s goes on", self._stream)
                tries, self._reached, self._away = BACKOFF.pauses(), True, False
            except (RedisUnavailableError, RedisRefusedError) as error:
                if not self._may_wait(error, end):
                    raise
                if not self._away:
                    logger.warning("reading %s waits for Redis: %s", self._stream, error)
                self._away = True
                # What an answer that got lost has delivered is pending.
                self._pending = "0"
                yield Pause(next(tries))
        return None

    def _may_wait(self, error: RedisUnavailableError | RedisRefusedError, end: float) -> bool:
        """Whether trouble is waited out: of any length once Redis was reached, or is insisted on; else an outage."""
        if (self._reached and self._what.follow) or self._patience == math.inf:
            return isinstance(error, RedisUnavailableError) or may_pass(error.code)
        return isinstance(error, RedisUnavailableError) and time.monotonic() <= end

    def _is_stale(self) -> bool:
        """Whether what is left of a batch has waited so long that others may soon take it over, or have done so.

        It is read once more then: that returns what is still this consumer's, and counts as a new delivery.
        """
        return bool(self._buffer) and time.monotonic() - self._filled_at > self._what.claim_idle / 2

    def _is_time_to_acknowledge(self) -> bool:
        late = time.monotonic() - self._acknowledged_at > _ACKNOWLEDGE_AFTER
        return late or len(self._done) >= self._what.batch

    def _acknowledge(self, patience: float) -> Steps[None]:
        if self._done:
            if self._what.before_acknowledging is not None:
                self._what.before_acknowledging()
            yield from ask(("XACK", self._stream, self._what.group, *self._done), patience, tidying=True)
            self._done.clear()
        self._acknowledged_at = time.monotonic()

    def _fill(self) -> Steps[bool]:
        """Read more. Return False where there is no more and the caller does not wait for it."""
        try:
            if not self._has_group:
                yield from self._create_group()
            if self._pending is not None:
                yield from self._read_pending(self._pending)
                return True
            if time.monotonic() >= self._claim_at:
                yield from self._take_over()
                return True
            return (yield from self._read_new())
        except RedisRefusedError as error:
            if error.code not in _GONE:
                raise
            # Redis has lost its data, or an operator has destroyed the group. What came since then is unread.
            self._has_group, self._start, self._pending = False, "0", "0"
            return True

    def _create_group(self) -> Steps[None]:
        try:
            yield from ask(("XGROUP", "CREATE", self._stream, self._what.group, self._start, "MKSTREAM"), 0)
        except RedisRefusedError as error:
            if error.code != "BUSYGROUP":
                raise
        self._has_group = True

    def _read_pending(self, after: str) -> Steps[None]:
        entries = yield from self._read_group(after)
        self._pending = entries[-1][0] if entries else None
        self._take_in(entries)

    def _take_over(self) -> Steps[None]:
        idle = max(1, int(self._what.claim_idle * 1000))
        command: Command = (
            *("XAUTOCLAIM", self._stream, self._what.group, self._what.consumer),
            *(idle, self._cursor, "COUNT", self._what.batch),
        )
        self._cursor, entries, some_are_gone = claimed((yield from ask(command, 0)))
        if some_are_gone:
            # Redis 6.2 does not say which; they are this consumer's now, and reading what is pending tells.
            self._pending = "0"
        if self._cursor == "0-0":
            self._claim_at = time.monotonic() + max(self._what.claim_idle / 2, _CLAIM_AT_MOST_EVERY)
        self._take_in(entries)

    def _read_new(self) -> Steps[bool]:
        until_claim = self._claim_at - time.monotonic()
        block = max(1, int(min(self._what.block, until_claim) * 1000))
        entries = yield from self._read_group(">", *(("BLOCK", block) if self._what.follow else ()))
        self._take_in(entries)
        return bool(entries) or self._what.follow

    def _read_group(self, after: str, *options: str | int) -> Steps[list[Entry]]:
        who = ("GROUP", self._what.group, self._what.consumer)
        command: Command = ("XREADGROUP", *who, "COUNT", self._what.batch, *options, "STREAMS", self._stream, after)
        return of_one_stream((yield from ask(command, 0)))

    def _take_in(self, entries: Sequence[Entry]) -> None:
        for entry, fields in entries:
            if fields is None:  # trimmed away before it was handled: there is nothing left to handle
                self._done.append(entry)
                continue
            try:
                self._buffer.append((entry, read_result(fields)))
            except UnreadableResultError as error:
                logger.warning("%s, entry %s: %s", self._stream, entry, error)
                if not error.newer:
                    self._done.append(entry)
        self._filled_at = time.monotonic()
