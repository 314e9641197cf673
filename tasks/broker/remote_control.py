"""Remote control: which broadcasts are commands for this worker, and what each command does here.

Anything may be published to the channel. What is not a command is ignored and counted; the log says so
once a minute. A command that fails says so to the one who sent it, and ends nothing.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import wraps
from time import monotonic
from typing import Any, Final

from celery.utils.time import rate
from celery.worker import control, state
from celery.worker.control import Panel, control_command

from cardtoken.error_description import describe_error
from tasks.broker.envelope import MalformedError, body_of, json_of, object_of
from tasks.broker.intake import CONTENT_TYPE
from tasks.telemetry import metrics

logger = logging.getLogger(__name__)

#: Bytes of a broadcast; a command names a few workers, queues or ids.
_LIMIT: Final = 1 << 20
_MAX_NAME: Final = 255
#: Seconds after which the log says the same again, and the most different ones that it says in that time.
_TELL_AGAIN: Final = 60.0
_MOST_WARNINGS: Final = 50
#: kombu's JSON makes objects of these, and raises where it cannot.
_TAG: Final = "__type__"

#: What `stats` shows of the connection: where it leads. The rest has the passwords of Redis and of sentinels.
_OF_CONNECTION: Final = frozenset({"hostname", "port", "virtual_host", "userid", "transport"})

_NOT_HERE: Final[Mapping[str, str]] = {
    "autoscale": "the pool does not grow: start the worker with another -c",
    "election": "workers of this service do not elect",
    "hello": "workers of this service do not inform each other of revoked messages",
    "objgraph": "debugging commands are off",
    "pool_grow": "the pool does not grow: start the worker with another -c",
    "pool_restart": "stop the worker by SIGTERM and start it again",
    "pool_shrink": "the pool does not shrink: start the worker with another -c",
    "revoke_by_stamped_headers": "messages have no stamps here: revoke them by id",
    "terminate": "a call to a provider is not cut short: use revoke",
    "time_limit": "time limits have no effect on threads: HTTP_TOTAL_TIMEOUT bounds each call",
}


class _Seldom:
    """Writes warnings, each kind at most once a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def warn(self, kind: str, words: str) -> None:
        now = monotonic()
        with self._lock:
            self._told = {each: at for each, at in self._told.items() if now - at < _TELL_AGAIN}
            if kind in self._told or len(self._told) >= _MOST_WARNINGS:
                return
            self._told[kind] = now
        logger.warning("remote control: %s", words)


_seldom = _Seldom()


def _ignore(kind: str, why: str) -> None:
    metrics.CONTROL_IGNORED.inc()
    _seldom.warn(kind, why)


def command(raw: object, hostname: str, reply_exchange: str) -> dict[str, Any] | None:
    """Return a broadcast as a message for kombu, or None if it is not a command for the worker ``hostname``.

    ``reply_exchange``: the one exchange that replies go to; a reply anywhere else could land in a lookup queue.
    """
    try:
        return _command(raw, hostname, reply_exchange)
    except MalformedError as error:
        _ignore("malformed", f"ignored a message: {error}")
        return None


def _command(raw: object, hostname: str, reply_exchange: str) -> dict[str, Any] | None:
    if not isinstance(raw, bytes) or len(raw) > _LIMIT:
        raise MalformedError("larger than a command")
    entry = object_of(json_of(raw, "the message"), "the message")
    headers = object_of(entry.get("headers") or {}, "headers")
    body = object_of(json_of(body_of(entry, headers, _LIMIT), "the body"), "the body")
    method = body.get("method")
    if not isinstance(method, str) or method not in Panel.data:
        raise MalformedError("an unknown command")
    arguments = object_of(body.get("arguments") or {}, "arguments")
    if _TAG in json.dumps(arguments):
        raise MalformedError("arguments with tagged objects")
    reply_to, ticket = _reply_to(body.get("reply_to"), reply_exchange), body.get("ticket")
    if ticket is not None and not _is_name(ticket):
        raise MalformedError("a ticket that is not text")
    if not _is_for(hostname, body):
        return None
    clock = headers.get("clock")
    return {
        "body": {"method": method, "arguments": arguments, "reply_to": reply_to, "ticket": ticket},
        "content-type": CONTENT_TYPE,
        "content-encoding": "utf-8",
        "headers": {"clock": clock if type(clock) is int and 0 <= clock < 1 << 53 else 0},
        "properties": {"delivery_tag": "control", "delivery_info": {"exchange": "", "routing_key": ""}},
    }


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def _reply_to(value: object, exchange: str) -> dict[str, str] | None:
    if not value:
        return None
    wanted = object_of(value, "reply_to")
    routing_key = wanted.get("routing_key")
    if wanted.get("exchange") != exchange or not isinstance(routing_key, str) or not _is_name(routing_key):
        raise MalformedError("a reply that would go elsewhere")
    return {"exchange": exchange, "routing_key": routing_key}


def _is_for(hostname: str, body: Mapping[str, Any]) -> bool:
    destination, pattern, matcher = body.get("destination"), body.get("pattern"), body.get("matcher")
    if destination:
        if not isinstance(destination, list) or not all(isinstance(each, str) for each in destination):
            raise MalformedError("a destination that is not a list of names")
        return hostname in destination
    if not pattern:
        return True
    # A regular expression could take for ever.
    if matcher not in (None, "glob") or not _is_name(pattern):
        raise MalformedError("a pattern other than a glob")
    return fnmatchcase(hostname, pattern)


def install() -> None:
    """Make Celery's commands this service's: some mean something else here, some are refused, and none ends a worker.

    Celery keeps commands in one register of the process.
    """
    control_command(args=[("queue", str)], signature="<queue>")(add_consumer)
    control_command(args=[("queue", str)], signature="<queue>")(cancel_consumer)
    control_command(
        args=[("task_name", str), ("rate_limit", str)], signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>"
    )(rate_limit)
    control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")(revoke)
    Panel.data["stats"] = stats
    for name, function in list(Panel.data.items()):
        Panel.data[name] = _refusing(name, _NOT_HERE[name]) if name in _NOT_HERE else _guarded(name, function)


def _refusing(name: str, why: str) -> Callable[..., dict[str, str]]:
    def refuse(_: Any, **__: Any) -> dict[str, str]:
        return _refused(f"{name} is refused: {why}")

    return refuse


def _refused(words: str) -> dict[str, str]:
    _ignore(words, words)
    return {"error": words}


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command; if its arguments make it raise, the sender gets the error. Ending the worker is not one."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - arguments may be anything
            words = f"{name} could not be done ({describe_error(error)})"
            _ignore(name, words)
            return {"error": words}

    return run


def _unknown(queue: object, consumer: Any) -> dict[str, str]:
    known = ", ".join(consumer.app.amqp.queues)
    return _refused(f"{str(queue)[:_MAX_NAME]!a} is not a queue of this worker's accounts; there are: {known}")


def stats(state: Any, **_: Any) -> dict[str, Any]:
    """Tell what the worker has done and where its connection leads."""
    found: dict[str, Any] = control.stats(state)
    broker = found.get("broker") or {}
    return {**found, "broker": {name: value for name, value in broker.items() if name in _OF_CONNECTION}}


def add_consumer(state: Any, queue: object, **_: Any) -> dict[str, str]:
    """Tell worker(s) to consume from a lookup queue by name."""
    consumer = state.consumer
    if not isinstance(queue, str) or queue not in consumer.app.amqp.queues:
        return _unknown(queue, consumer)
    consumer.call_soon(consumer.add_task_queue, queue)
    return {"ok": f"add consumer {queue}"}


def cancel_consumer(state: Any, queue: object, **_: Any) -> dict[str, str]:
    """Tell worker(s) to stop consuming from a lookup queue by name."""
    consumer = state.consumer
    if not isinstance(queue, str) or queue not in consumer.app.amqp.queues:
        return _unknown(queue, consumer)
    consumer.call_soon(consumer.cancel_task_queue, queue)
    return {"ok": f"no longer consuming from {queue}"}


def rate_limit(state: Any, task_name: object, rate_limit: object, **_: Any) -> Any:
    """Tell worker(s) to start messages of a task at this rate; 0 for no limit, which releases what waits."""
    if not isinstance(rate_limit, int | float | str) or not 0 <= rate(rate_limit) < float("inf"):
        return _refused("a rate limit is 0 or more, such as 5/s, 5/m or 5/h")
    return control.rate_limit(state, task_name, rate_limit)


def revoke(_: Any, task_id: object, **__: Any) -> dict[str, str]:
    """Revoke message(s) by task id: their lookups end as `expired` unless they run already."""
    ids = task_id if isinstance(task_id, list) else [task_id]
    if not all(_is_name(each) for each in ids):
        return _refused("revoke takes task ids")
    state.revoked.update(ids)
    logger.info("revoked %d messages", len(ids))
    return {"ok": f"tasks {set(ids)} flagged as revoked"}
