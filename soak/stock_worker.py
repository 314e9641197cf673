"""The same job as an afternoon's work on stock Celery would do it: threads, late acknowledgement, retries, a session.

It is here to be measured, and nothing uses it. ``python -m soak.stock_worker push FILE`` sends messages with a client
of the same transport. It needs only celery, redis and requests, to run where nothing of the service can.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import redis
import requests
from celery import Celery, Task

STREAM = "token-records:default"


def _threads() -> int:
    return int(os.environ.get("STOCK_CONCURRENCY", "6"))


def _settings() -> dict[str, Any]:
    """Return Celery's settings: read when Celery needs the first of them, and not by an import."""
    settings: dict[str, Any] = {
        "broker_url": os.environ["REDIS_URL"],
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "worker_pool": "threads",
        "worker_concurrency": _threads(),
        "worker_prefetch_multiplier": 1,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {"visibility_timeout": float(os.environ.get("VISIBILITY_TIMEOUT", "3600"))},
        "task_queues": {
            f"lookup.{name}.{lane}": {} for name in ("opay", "afterpay") for lane in ("interactive", "bulk")
        },
    }
    if "STOCK_TRANSPORT" in os.environ:
        settings["broker_transport"] = os.environ["STOCK_TRANSPORT"]
    return settings


# Loader and fixups are those that Celery would choose, without asking the environment for others.
app = Celery("stock", loader="app", fixups=[])
app.add_defaults(_settings)


@cache
def _store() -> redis.Redis:
    return redis.Redis.from_url(os.environ["REDIS_URL"])


@cache
def _calls() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads())


_local = threading.local()


class NotNowError(Exception):
    """The provider says to come again."""


def _session() -> requests.Session:
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    session: requests.Session = _local.session
    return session


def _opay(request: dict[str, Any]) -> str:
    body = json.dumps({"opayToken": request["opay_token"]}).encode()
    signature = hmac.new(os.environ["OPAY_PRIVATE_KEY"].encode(), body, hashlib.sha512).hexdigest()
    headers = {
        "MerchantId": os.environ["OPAY_MERCHANT_ID"],
        "Authorization": f"Bearer {signature}",
        "Content-Type": "application/json",
    }
    url = os.environ["OPAY_BASE_URL"] + "/api/v1/international/token/query"
    answer = _session().post(url, data=body, headers=headers, timeout=(3, 10)).json()
    if answer["code"] in {"09", "90"}:
        raise NotNowError(answer["code"])
    return "found" if answer["data"] else "not_found"


_token_lock = threading.Lock()
_token: list[Any] = ["", 0.0]


def _access_token() -> str:
    with _token_lock:
        if _token[1] < time.monotonic():
            login = f"{os.environ['AFTERPAY_CLIENT_ID']}:{os.environ['AFTERPAY_CLIENT_SECRET']}"
            basic = base64.b64encode(login.encode()).decode()
            headers = {"Authorization": f"Basic {basic}", "Accept": "application/json"}
            url = os.environ["AFTERPAY_BASE_URL"] + "/oauth2/token"
            form = {"grant_type": "client_credentials"}
            answer = _session().post(url, data=form, headers=headers, timeout=(3, 10)).json()
            _token[:] = answer["access_token"], time.monotonic() + 60
        return str(_token[0])


def _afterpay(request: dict[str, Any]) -> str:
    headers = {
        "Authorization": f"Bearer {_access_token()}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Request-Id": os.urandom(16).hex(),
        "User-Agent": "Shop;1;web;ONLINE;PAYNOW;AU;1.0",
    }
    url = os.environ["AFTERPAY_BASE_URL"] + "/v1/cards/verification"
    query = {"originalRequestId": request["original_request_id"]}
    answer = _session().get(url, params=query, headers=headers, timeout=(3, 10))
    if answer.status_code in {408, 503}:
        raise NotNowError(str(answer.status_code))
    return "found" if answer.ok else "not_found"


def _try(ask: Any, request: dict[str, Any]) -> str | None:
    try:
        return str(ask(request))
    except (NotNowError, requests.RequestException):
        return None


def _each(task: "Task[..., None]", ask: Any, asked: list[dict[str, Any]]) -> None:
    for index, request in enumerate(asked):
        request.setdefault("lookup_id", f"{task.request.id}:{index}")
    left = []
    for request, status in zip(asked, _calls().map(lambda each: _try(ask, each), asked), strict=True):
        if status is None:
            left.append(request)
            continue
        result = json.dumps({"lookup_id": request["lookup_id"], "status": status})
        _store().xadd(STREAM, {"lookup_id": request["lookup_id"], "result": result})
    if left:
        raise task.retry(kwargs={"requests": left}, countdown=0.5)


@app.task(name="lookup.opay", bind=True, max_retries=None)
def opay(self: "Task[..., None]", requests: list[dict[str, Any]]) -> None:
    """Look up OPay tokens."""
    _each(self, _opay, requests)


@app.task(name="lookup.afterpay", bind=True, max_retries=None)
def afterpay(self: "Task[..., None]", requests: list[dict[str, Any]]) -> None:
    """Look up Afterpay cards."""
    _each(self, _afterpay, requests)


def push(file: Path) -> None:
    """Send messages, a JSON array ``[task, task id, queue, requests]`` a line."""
    with app.producer_pool.acquire() as producer:
        for line in file.read_text(encoding="utf-8").splitlines():
            name, task_id, queue, asked = json.loads(line)
            app.send_task(name, kwargs={"requests": asked}, task_id=task_id, queue=queue, producer=producer)


if __name__ == "__main__":
    push(Path(sys.argv[2]))
