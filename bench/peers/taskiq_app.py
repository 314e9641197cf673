"""taskiq with aiohttp, on its list broker (no acknowledgement) or its stream broker."""

import os
from typing import Any

import aiohttp
import redis.asyncio
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from bench.peers.work import CONCURRENCY, REDIS_URL, STREAM, URL, fields, signed

_kind: Any = RedisStreamBroker if os.environ.get("BENCH_BROKER") == "stream" else ListQueueBroker
broker = _kind(REDIS_URL, queue_name="peers")
_http: aiohttp.ClientSession
_redis: Any


@broker.on_event(TaskiqEvents.WORKER_STARTUP)  # type: ignore[untyped-decorator]
async def _open(_: TaskiqState) -> None:
    global _http, _redis  # noqa: PLW0603 - one process, one worker
    _http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY))
    _redis = redis.asyncio.Redis.from_url(REDIS_URL)


@broker.task(task_name="peers.lookup")  # type: ignore[untyped-decorator]
async def lookup(token: str) -> None:
    """One token."""
    body, headers = signed(token)
    async with _http.post(URL, data=body, headers=headers) as response:
        answer = await response.json()
    await _redis.xadd(STREAM, fields(token, answer))
