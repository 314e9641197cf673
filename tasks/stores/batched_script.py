"""Calls of one script by many threads, sent in batches."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from redis import Redis, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

#: Calls in one round trip at most: what one of them waits for the others is bounded.
_AT_ONCE: Final = 32


class _Call:
    """One thread's call, and its reply or the error that it ended with."""

    __slots__ = ("command", "done", "error", "reply")

    def __init__(self, command: tuple[Any, ...]) -> None:
        self.command = command
        self.done = False
        self.reply: Any = None
        self.error: BaseException | None = None

    def replied(self, reply: Any) -> None:
        self.reply, self.error, self.done = reply, None, True

    def failed(self, error: BaseException) -> None:
        self.error, self.done = error, True


class BatchedScript:
    """A script that threads call as if each were alone.

    Calls that come while another one waits for Redis are sent with the next round trip, in the order in which they
    came: a worker with a hundred messages at once spends a third less on publishing them. No call waits for company.

    The thread whose turn it is sends for all that wait, and returns once its own call is done, which may take several
    round trips. An error in one reaches every thread that has a call in it; arguments that cannot be packed fail their
    own call alone.
    """

    def __init__(self, redis: Redis, script: str) -> None:
        self._redis = redis
        self._text = script
        self._sha: str = redis.register_script(script).sha
        self._waiting: deque[_Call] = deque()
        self._turn = threading.Lock()

    def call(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Return the script's reply. Raises ``redis.RedisError`` or ``OSError``, and then it may have run or not.

        Anything else that goes wrong on the way is raised as it is.
        """
        call = _Call(("EVALSHA", self._sha, len(keys), *keys, *args))
        self._waiting.append(call)
        with self._turn:
            while not call.done:
                self._send()
        if call.error is not None:
            raise call.error
        return call.reply

    def _send(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        try:
            self._ask(batch)
            unknown = [call for call in batch if isinstance(call.error, NoScriptError)]
            if unknown:
                for call in unknown:
                    call.done = False
                self._redis.script_load(self._text)
                self._ask(unknown)
        except Exception as error:  # noqa: BLE001 - each thread that has a call in the batch raises it
            _fail(batch, error)
        except BaseException:
            # It ends this thread. The others can ask again.
            _fail(batch, RedisConnectionError("the round trip was broken off"))
            raise

    def _ask(self, batch: Sequence[_Call]) -> None:
        """Make one round trip. redis-py's own pipeline takes as long for the little that is sent here as Redis does."""
        pool: Any = self._redis.connection_pool
        connection = pool.get_connection()
        try:
            packed: list[bytes] = []
            sent: list[_Call] = []
            for call in batch:
                try:
                    packed += connection.pack_command(*call.command)
                    sent.append(call)
                except Exception as error:  # noqa: BLE001 - of this call alone: the others are sent
                    call.failed(error)
            if sent:
                connection.send_packed_command([b"".join(packed)])
            for call in sent:
                try:
                    call.replied(connection.read_response())
                except ResponseError as error:
                    call.failed(error)
        except BaseException:
            # What it has not answered must not be read by the next user of the connection.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)


def _fail(batch: Sequence[_Call], error: BaseException) -> None:
    """Fail the calls whose reply was not read."""
    for call in batch:
        if not call.done:
            call.failed(error)
