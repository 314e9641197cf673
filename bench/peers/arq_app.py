"""arq with aiohttp."""

from typing import Any, ClassVar

import aiohttp
import redis.asyncio
from arq.connections import RedisSettings

from bench.peers.work import CONCURRENCY, REDIS_URL, STREAM, URL, fields, signed


async def _open(ctx: dict[str, Any]) -> None:
    ctx["http"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY))
    ctx["results"] = redis.asyncio.Redis.from_url(REDIS_URL)


async def lookup(ctx: dict[str, Any], token: str) -> None:
    """One token."""
    body, headers = signed(token)
    async with ctx["http"].post(URL, data=body, headers=headers) as response:
        answer = await response.json()
    await ctx["results"].xadd(STREAM, fields(token, answer))


class WorkerSettings:
    """What `arq` reads."""

    functions: ClassVar[list[Any]] = [lookup]
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    on_startup = _open
    max_jobs = CONCURRENCY
    keep_result = 0
    poll_delay = 0.05
