"""dramatiq with requests."""

import threading

import dramatiq
import redis
import requests
from dramatiq.brokers.redis import RedisBroker

from bench.peers.work import REDIS_URL, STREAM, URL, fields, signed

dramatiq.set_broker(RedisBroker(url=REDIS_URL))
_local = threading.local()


@dramatiq.actor(queue_name="peers")  # type: ignore[untyped-decorator]
def lookup(token: str) -> None:
    """One token."""
    if not hasattr(_local, "session"):
        _local.session, _local.redis = requests.Session(), redis.Redis.from_url(REDIS_URL)
    body, headers = signed(token)
    answer = _local.session.post(URL, data=body, headers=headers, timeout=10).json()
    _local.redis.xadd(STREAM, fields(token, answer))
