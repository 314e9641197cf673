"""The client for threads; ``cardtoken.async_client`` has its twin for asyncio, in modules that both share."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import redis

from cardtoken import lookup, producer
from cardtoken.connection import connect
from cardtoken.consumer import Flag, ResultReader, Subscription
from cardtoken.contract import DEFAULT, Lane, LookupResult
from cardtoken.errors import ClosedError
from cardtoken.message import AnyRequest, Receipt
from cardtoken.producer import Progress, Sender
from cardtoken.redis_compat import UNDECODED, longest_wait, pools, untouched
from cardtoken.steps import Ask, Pause, Steps

T = TypeVar("T")


class Client:
    """Enqueue lookups, wait for one, read the results of many. One client serves all threads of a process.

    Give it a URL (``redis://``, ``rediss://`` with ``ca_file`` for a private authority and ``cert_file`` and
    ``key_file`` for a client certificate, ``unix://``, or ``sentinel://HOST:PORT/DB;sentinel://HOST:PORT/DB`` with
    ``sentinel_master``; ValueError says what is wrong with it), or a ``redis.Redis`` of your own, whose
    connections it then uses, with their timeouts and retries, and leaves open. It connects when it is first used, and
    a waiting ``lookup`` or ``results`` holds one connection.

    ``retry_for``: for how many seconds a call insists while Redis cannot be reached, before it raises
    RedisUnavailableError. A Redis that accepts connections and does not answer is given 5 seconds more. With ``inf``,
    ``results`` also waits, from its beginning, while Redis refuses for a reason that may pass.

    Every method raises ClosedError once the client is closed; calls that wait then end within a second, and
    ``results`` ends like a list that is over.
    """

    def __init__(
        self,
        url_or_redis: "str | redis.Redis",
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
            url_or_redis = connect(
                url_or_redis,
                ca_file=Path(ca_file) if ca_file else None,
                cert_file=Path(cert_file) if cert_file else None,
                key_file=Path(key_file) if key_file else None,
                sentinel_master=sentinel_master,
                sentinel_password=sentinel_password,
            )
        elif not isinstance(url_or_redis, redis.Redis):
            raise TypeError(f"Client takes a URL or a redis.Redis, not {type(url_or_redis).__name__}")
        self._pool: Final[Any] = url_or_redis.connection_pool
        # Another object on the same connections: its answers come as Redis gave them, with any options of yours.
        self._redis: Final = untouched(redis.Redis(connection_pool=self._pool))
        self._longest_wait = longest_wait(self._pool.connection_kwargs)
        self._retry_for = retry_for
        self._closed = threading.Event()

    def enqueue(
        self,
        request: AnyRequest,
        *,
        lane: Lane | str = Lane.INTERACTIVE,
        reply_to: str | None = None,
        task_id: str | None = None,
    ) -> Receipt:
        """Push one request: the request model of a provider, such as ``OpayRequest``, or a mapping with its fields.

        ``requested_at`` is stamped, and ``reply_to`` set, where the request does not say them. Return the ids under
        which the result comes.

        Raises InvalidRequestError, RedisRefusedError, and RedisUnavailableError when it is not known whether the
        message arrived: enqueue the same with the same ``task_id`` then. For 24 hours the service publishes no second
        result for a task id, so a copy costs a call to the provider at most.
        """
        return self._run(
            producer.enqueue(request, lane=Lane(lane), reply_to=reply_to, task_id=task_id, patience=self._retry_for)
        )

    def enqueue_many(
        self,
        requests: Iterable[AnyRequest],
        *,
        lane: Lane | str = Lane.BULK,
        reply_to: str | None = None,
        max_queue_length: int | None = 1000,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Progress:
        """Push any number of requests, of any provider, up to 500 in a message; memory stays bounded.

        While a queue has ``max_queue_length`` messages, pushing to it waits; None never waits. ``on_progress`` is
        called after each push and while waiting, with counts of what Redis has confirmed; return the last of them.
        Set a ``lookup_id`` in each request to tell the results apart: task ids are not returned here.

        A request that is not valid ends the call with InvalidRequestError, which has its ``index``, and an error of
        the iterable with that error; all before it are pushed then. RedisUnavailableError and RedisRefusedError end
        it too, with a note of how much had been confirmed. A push whose answer got lost is made again with the same
        task ids, so that no lookup gets a second result.
        """
        sender = Sender(
            lane=Lane(lane),
            reply_to=reply_to,
            max_queue_length=max_queue_length,
            on_progress=on_progress,
            patience=self._retry_for,
        )
        source = iter(requests)
        while True:
            try:
                is_time = sender.add(next(source))
            except StopIteration:
                return self._run(sender.finish())
            except Exception:
                self._run(sender.finish())
                raise
            if is_time:
                self._run(sender.flush())

    def lookup(
        self, request: AnyRequest, timeout: float = 30.0, *, lane: Lane | str = Lane.INTERACTIVE
    ) -> LookupResult:
        """Push one request and wait for its result, up to ``timeout`` seconds.

        Return a result that is ``found`` or ``not_found``. Raises LookupFailedError for one that is ``failed``,
        LookupTimeoutError when there is none in time, and what ``enqueue`` raises. The request's deadline is the end of
        the wait unless it has one of its own; it must not name a ``reply_to``. The answer comes in a one-off reply
        queue, which is deleted however the call ends, and expires by itself where that is not possible. A Redis that
        restarts meanwhile costs time only, if it keeps its data.
        """
        return self._run(
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
    ) -> "Results":
        """The results in a result queue, as one consumer of a group; each goes to one consumer of the group.

        A result is handled when the next one is asked for, or a ``with`` block around the loop is left without an
        exception; then it is acknowledged, together with others, after a second at most where results keep coming.
        One that was in hand when the loop's body raised, or when a loop without ``with`` was left by ``break``, is not,
        and is delivered again. So each is handled at least once: tell repeated ones by ``task_id`` and ``lookup_id``.

        - ``consumer``: a name that stays the same over restarts and that no other running one has. What it left
          unacknowledged comes first.
        - ``claim_idle``: seconds after which what another consumer has taken and not acknowledged is taken over; more
          than handling one result ever takes.
        - ``batch``: results read at a time. ``block``: seconds that one read waits, at most one, and with it how soon
          ``stop`` and ``close()`` are noticed.
        - ``start``: where a new group begins, ``"0"`` (all that is there) or ``"$"`` (what comes from now on). The
          group is made when the first result is asked for, and again, from ``"0"``, when Redis has lost it.
        - ``follow=False``: end when there is nothing more, instead of waiting.
        - ``stop``: an event that ends the loop.
        - ``before_acknowledging``: called before results are acknowledged, once for many: makes durable what was
          handled. What it raises ends the loop, and nothing is acknowledged.

        Once Redis has been reached, an outage of any length is waited out (not with ``follow=False``), be it that Redis
        is away, or that it refuses for a reason that may pass, such as READONLY, OOM or NOPERM. An entry that is
        no result is logged, acknowledged and passed over; one of a later schema version is logged and left to a later
        version of this package.
        """
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
        return Results(ResultReader(subscription, self._retry_for), self._run)

    def close(self) -> None:
        """End what waits, in any thread, and close the connections, unless they are yours. May be called twice."""
        self._closed.set()
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _disconnect(self) -> None:
        if self._owned:
            for pool in pools(self._pool):
                pool.disconnect(inuse_connections=False)

    def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._take(step)
                except BaseException as error:  # noqa: BLE001 - the steps tidy up after any, and raise it again
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            if self._closed.is_set():
                self._disconnect()

    def _take(self, step: Ask | Pause) -> list[Any] | None:
        if isinstance(step, Pause):
            if self._closed.wait(step.seconds):
                raise ClosedError
            return None
        if self._closed.is_set() and not step.tidying:
            raise ClosedError
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in step.commands:
                pipeline.execute_command(*command, **UNDECODED)
            return cast("list[Any]", pipeline.execute(raise_on_error=False))


class Results(Iterator[LookupResult]):
    """The iterator of ``Client.results``: for one thread. Use it in a ``with`` block to leave a loop early."""

    def __init__(self, reader: ResultReader, run: Callable[[Steps[Any]], Any]) -> None:
        self._reader = reader
        self._results = _iterate(reader, run)

    def __next__(self) -> LookupResult:
        return next(self._results)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._reader.handled()
        self._results.close()


def _iterate(reader: ResultReader, run: Callable[[Steps[Any]], Any]) -> Generator[LookupResult, None, None]:
    try:
        while (result := run(reader.next())) is not None:
            yield result
            reader.handled()
    finally:
        run(reader.leave())
