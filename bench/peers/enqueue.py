"""`python -m bench.peers.enqueue CONTENDER COUNT`: enqueue so many tokens as that contender's documentation does."""

import asyncio
import os
import sys


def _tokens(count: int) -> list[str]:
    return [f"OPAY_TOKEN_visa~bench-{number}" for number in range(count)]


def _celery(count: int) -> None:
    from bench.peers.celery_app import lookup

    for token in _tokens(count):
        lookup.delay(token)


async def _taskiq(count: int) -> None:
    from bench.peers.taskiq_app import broker, lookup

    await broker.startup()
    for token in _tokens(count):
        await lookup.kiq(token)
    await broker.shutdown()


async def _arq(count: int) -> None:
    from arq import create_pool
    from arq.connections import RedisSettings

    pool = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]))
    for token in _tokens(count):
        await pool.enqueue_job("lookup", token)


def _dramatiq(count: int) -> None:
    from bench.peers.dramatiq_app import lookup

    for token in _tokens(count):
        lookup.send(token)


if __name__ == "__main__":
    kind, number = sys.argv[1], int(sys.argv[2])
    if kind == "celery":
        _celery(number)
    elif kind == "dramatiq":
        _dramatiq(number)
    else:
        asyncio.run({"taskiq": _taskiq, "arq": _arq}[kind](number))
