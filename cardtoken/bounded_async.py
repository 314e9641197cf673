"""``cardtoken.bounded`` and ``cardtoken.sentinel`` for asyncio, whose connects redis-py bounds by itself."""

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection

from cardtoken.bounded import NO_DATABASE, ServerState, UnusableServerError, plain_refusal, refusal, tls_refusal
from cardtoken.login import Login
from cardtoken.sentinel import ALL_TIMEOUT, STAGGER, Address, error_of, not_found, primary_of, sentinel_options


class AsyncBounded:
    """Added to an asyncio connection class of redis-py. ``state`` is shared by all connections to the same server."""

    def __init__(self, *, state: ServerState | None = None, **kwargs: Any) -> None:
        self._state = state
        self._opened_at = 0.0
        super().__init__(**kwargs)

    async def connect(self) -> None:
        """Connect, unless connected; raises UnusableServerError where trying again is of no use."""
        connection: Any = self
        if connection.is_connected:
            if self._state is None or self._opened_at > self._state.unanswered_at:
                return
            # Another one was not answered since: this one is not trusted either.
            await connection.disconnect(nowait=True)
        try:
            await self._select()
            await self._look_at_server()
        except UnusableServerError:
            await connection.disconnect(nowait=True)
            raise
        except (redis.RedisError, OSError) as error:
            if reason := await self._refusal(error):
                raise UnusableServerError(reason) from error
            raise
        self._opened_at = monotonic()

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py; notes where an answer did not come."""
        try:
            return await super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.TimeoutError:
            if self._state is not None:
                self._state.unanswered(self._opened_at)
            raise

    async def _select(self) -> None:
        try:
            await super().connect()  # type: ignore[misc]
        except redis.ResponseError as error:
            if self._state is None or self._state.kind_known or NO_DATABASE not in str(error):
                raise
            connection: Any = self
            chosen, connection.db = connection.db, 0
            try:
                await super().connect()  # type: ignore[misc]
                await self._look_at_server()
            finally:
                connection.db = chosen
                await connection.disconnect(nowait=True)
            raise

    async def _look_at_server(self) -> None:
        if self._state is None or self._state.kind_known:
            return
        connection: Any = self
        await connection.send_command("INFO", "server", check_health=False)
        try:
            info = await connection.read_response()
        except redis.ResponseError as error:
            self._state.learn_nothing(error)
        else:
            self._state.learn_kind(info)

    async def _refusal(self, error: BaseException) -> str | None:
        return refusal(error)


class AsyncBoundedConnection(AsyncBounded, redis.asyncio.Connection):
    """``redis://``."""

    async def _refusal(self, error: BaseException) -> str | None:
        return await asyncio.to_thread(plain_refusal, error, self, self._state)


class AsyncBoundedTlsConnection(AsyncBounded, redis.asyncio.SSLConnection):
    """``rediss://``."""

    async def _refusal(self, error: BaseException) -> str | None:
        return await asyncio.to_thread(tls_refusal, error, self, self._state)


class AsyncBoundedSentinelConnection(AsyncBounded, SentinelManagedConnection):
    """``sentinel://``."""


class AsyncBoundedUnixConnection(AsyncBounded, redis.asyncio.UnixDomainSocketConnection):
    """``unix://``."""


class AsyncSentinels(Sentinel):
    """The twin of ``cardtoken.sentinel.Sentinels``."""

    def __init__(self, hosts: Iterable[Address], login: Login) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        options = sentinel_options(login)
        self.sentinels = [
            redis.asyncio.Redis.from_pool(
                redis.asyncio.ConnectionPool(AsyncBoundedConnection, host=host, port=port, **options)
            )
            for host, port in hosts
        ]

    async def discover_master(self, service_name: str) -> Address:
        """Return the address of the primary that the first sentinel with a good one names.

        Raises ``redis.ConnectionError`` after ALL_TIMEOUT seconds at most.
        """
        waiting, errors = list(self.sentinels), []
        asked: dict[asyncio.Task[Address], Any] = {}
        end = monotonic() + ALL_TIMEOUT
        try:
            while waiting or asked:
                if waiting:
                    sentinel = waiting.pop(0)
                    asked[asyncio.create_task(self._ask(sentinel, service_name))] = sentinel
                timeout = STAGGER if waiting else max(0, end - monotonic())
                done, _ = await asyncio.wait(asked, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not done and not waiting:
                    break
                for task in done:
                    sentinel = asked.pop(task)
                    error = task.exception()
                    if error is None:
                        self.sentinels = [sentinel, *(each for each in self.sentinels if each is not sentinel)]
                        return task.result()
                    errors.append(error_of(sentinel, error))
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise not_found(service_name, errors, len(self.sentinels))

    async def _ask(self, sentinel: Any, service_name: str) -> Address:
        try:
            return primary_of(self, await sentinel.sentinel_masters(), service_name)
        finally:
            await sentinel.connection_pool.disconnect()
