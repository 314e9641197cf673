"""The client for asyncio: the twin of ``cardtoken.client``. What both do is in the modules they share."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import redis.asyncio

from cardtoken import lookup, producer
from cardtoken.connection import connect_async
from cardtoken.consumer import Flag, ResultReader, Subscription
from cardtoken.contract import DEFAULT, Lane, LookupResult
from cardtoken.errors import ClosedError
from cardtoken.message import AnyRequest, Receipt
from cardtoken.producer import Progress, Sender
from cardtoken.redis_compat import UNDECODED, longest_wait, pools, untouched
from cardtoken.steps import Ask, Pause, Steps

#: Requests after which others on the event loop have their turn: a few milliseconds' work.
_TURN: Final = 100

T = TypeVar("T")


class AsyncClient:
    """``cardtoken.Client`` for asyncio: the same methods, awaited, with the same promises. For one event loop.

    Takes a URL, or a ``redis.asyncio.Redis`` of your own. Cancelling a call leaves nothing behind.
    """

    def __init__(
        self,
        url_or_redis: "str | redis.asyncio.Redis",
        *,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        sentinel_master: str = "",
        sentinel_password: str | None = None,
        retry_for: float = 10.0,
    ) -> None:
        self._owned = isinstance(url_or_redis, str)
        if isinstance(url_or_redis, str):
            url_or_redis = connect_async(
                url_or_redis,
                ca_file=Path(ca_file) if ca_file else None,
                cert_file=Path(cert_file) if cert_file else None,
                key_file=Path(key_file) if key_file else None,
                sentinel_master=sentinel_master,
                sentinel_password=sentinel_password,
            )
        elif not isinstance(url_or_redis, redis.asyncio.Redis):
            raise TypeError(f"AsyncClient takes a URL or a redis.asyncio.Redis, not {type(url_or_redis).__name__}")
        self._pool: Final[Any] = url_or_redis.connection_pool
        self._redis: Final = untouched(redis.asyncio.Redis(connection_pool=self._pool))
        self._longest_wait = longest_wait(self._pool.connection_kwargs)
        self._retry_for = retry_for
        self._closed = asyncio.Event()

    async def enqueue(
        self,
        request: AnyRequest,
        *,
        lane: Lane | str = Lane.INTERACTIVE,
        reply_to: str | None = None,
        task_id: str | None = None,
    ) -> Receipt:
        """See ``Client.enqueue``."""
        return await self._run(
            producer.enqueue(request, lane=Lane(lane), reply_to=reply_to, task_id=task_id, patience=self._retry_for)
        )

    async def enqueue_many(
        self,
        requests: Iterable[AnyRequest] | AsyncIterable[AnyRequest],
        *,
        lane: Lane | str = Lane.BULK,
        reply_to: str | None = None,
        max_queue_length: int | None = 1000,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Progress:
        """See ``Client.enqueue_many``. ``requests`` may be an async iterable; ``on_progress`` is a plain function."""
        sender = Sender(
            lane=Lane(lane),
            reply_to=reply_to,
            max_queue_length=max_queue_length,
            on_progress=on_progress,
            patience=self._retry_for,
        )
        source = aiter(requests) if isinstance(requests, AsyncIterable) else _each(requests)
        while True:
            try:
                is_time = sender.add(await anext(source))
            except StopAsyncIteration:
                return await self._run(sender.finish())
            except Exception:
                await self._run(sender.finish())
                raise
            if is_time:
                await self._run(sender.flush())

    async def lookup(
        self,
        request: AnyRequest,
        timeout: float = 30.0,  # noqa: ASYNC109 - the service has to know it too
        *,
        lane: Lane | str = Lane.INTERACTIVE,
    ) -> LookupResult:
        """See ``Client.lookup``."""
        return await self._run(
            lookup.lookup(request, timeout=timeout, lane=Lane(lane), wait=self._longest_wait, patience=self._retry_for)
        )

    def results(
        self,
        reply_to: str = DEFAULT,
        *,
        group: str,
        consumer: str,
        batch: int = 100,
        block: float = 1.0,
        claim_idle: float = 60.0,
        start: str = "0",
        follow: bool = True,
        stop: Flag | None = None,
        before_acknowledging: Callable[[], object] | None = None,
    ) -> "AsyncResults":
        """See ``Client.results``; the loop is an ``async for``, the block an ``async with``."""
        if self._closed.is_set():
            raise ClosedError
        subscription = Subscription(
            reply_to=reply_to,
            group=group,
            consumer=consumer,
            batch=batch,
            block=min(block, self._longest_wait),
            claim_idle=claim_idle,
            start=start,
            follow=follow,
            stop=stop,
            before_acknowledging=before_acknowledging,
        )
        return AsyncResults(ResultReader(subscription, self._retry_for), self._run)

    async def close(self) -> None:
        """End what waits, in any task, and close the connections, unless they are yours. May be called twice."""
        self._closed.set()
        await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _disconnect(self) -> None:
        if self._owned:
            for pool in pools(self._pool):
                await pool.disconnect(inuse_connections=False)

    async def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(step)
                except BaseException as error:  # noqa: BLE001 - the steps tidy up after any, and raise it again
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            if self._closed.is_set():
                await self._disconnect()

    async def _take(self, step: Ask | Pause) -> list[Any] | None:
        if isinstance(step, Pause):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), step.seconds)
                raise ClosedError
            return None
        if self._closed.is_set() and not step.tidying:
            raise ClosedError
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in step.commands:
                pipeline.execute_command(*command, **UNDECODED)
            return cast("list[Any]", await pipeline.execute(raise_on_error=False))


class AsyncResults(AsyncIterator[LookupResult]):
    """The iterator of ``AsyncClient.results``: for one task. Use it in an ``async with`` to leave a loop early."""

    def __init__(self, reader: ResultReader, run: Callable[[Steps[Any]], Coroutine[Any, Any, Any]]) -> None:
        self._reader = reader
        self._results = _iterate(reader, run)

    async def __anext__(self) -> LookupResult:
        return await anext(self._results)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._reader.handled()
        await self._results.aclose()


async def _iterate(
    reader: ResultReader, run: Callable[[Steps[Any]], Coroutine[Any, Any, Any]]
) -> AsyncGenerator[LookupResult, None]:
    try:
        while (result := await run(reader.next())) is not None:
            yield result
            reader.handled()
    finally:
        await run(reader.leave())


async def _each(requests: Iterable[AnyRequest]) -> AsyncIterator[AnyRequest]:
    for number, request in enumerate(requests):
        if number % _TURN == 0:
            await asyncio.sleep(0)
        yield request
