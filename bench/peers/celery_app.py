"""Stock Celery, on its Redis transport: prefork or threads, late acknowledgement, a session for each thread."""

import os
import threading

import redis
import requests
from celery import Celery

from bench.peers.work import REDIS_URL, STREAM, URL, fields, signed

app = Celery("peers", broker=REDIS_URL)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    task_default_queue="peers",
    broker_connection_retry_on_startup=True,
)
if "BENCH_TRANSPORT" in os.environ:
    app.conf.broker_transport = os.environ["BENCH_TRANSPORT"]
_local = threading.local()


@app.task(name="peers.lookup")
def lookup(token: str) -> None:
    """One token."""
    if not hasattr(_local, "session"):
        _local.session, _local.redis = requests.Session(), redis.Redis.from_url(REDIS_URL)
    body, headers = signed(token)
    answer = _local.session.post(URL, data=body, headers=headers, timeout=10).json()
    _local.redis.xadd(STREAM, fields(token, answer))
