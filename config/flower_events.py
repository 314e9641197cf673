"""Check and mask events before Flower keeps them.

A worker's events hold a summary of a message. A producer with ``task_send_sent_event`` puts a message's arguments into
its own events, card tokens included. And any client may publish to the channel: an event that Flower could not show,
now or on a later page, is ignored.
"""

import base64
import json
import logging
import math
from collections.abc import Callable
from typing import Any, Final

from celery.events import EventReceiver
from celery.events.state import Task, Worker
from flower import events

from config import flower_health

logger = logging.getLogger(__name__)

_SHOWN: Final = "(as its producer sent it: not shown)"
#: Characters of a text, and numbers from nothing to here: times in seconds, counts, clocks.
_LONGEST: Final = 1 << 16
_LARGEST: Final = float(1 << 53)
#: Fields that are calculated with, and when they may also be negative.
_NUMBERS: Final = frozenset({"timestamp", "clock", "freq", "active", "processed", "pid", "retries", "runtime"})
_SIGNED: Final = frozenset({"utcoffset"})
_NAMES: Final = frozenset({"type", "hostname", "uuid"})
_TEXTS: Final = frozenset(
    {
        *("name", "args", "kwargs", "result", "exception", "traceback", "eta", "expires", "root_id", "parent_id"),
        *("queue", "exchange", "routing_key", "sw_ident", "sw_ver", "sw_sys"),
    }
)
_OTHERS: Final = frozenset({"loadavg", "signum", "requeue", "terminated", "expired"})
#: Celery makes an attribute of each field. These it has already.
_TAKEN: Final = (
    frozenset(dir(Worker))
    | frozenset(dir(Task))
    | frozenset(
        {*Worker._fields, *Task._fields}  # type: ignore[attr-defined]  # the stubs leave them out
    )
)


class MaskingReceiver(EventReceiver):
    """Receive the events that can be shown, and drop what a producer's events hold of a message."""

    def get_consumers(self, Consumer: Any, channel: Any) -> Any:  # noqa: N803 - the name is Celery's
        """Screen what is published before kombu reads it; the channel is one of ``tasks.broker.channel``."""
        channel.screen = _screen()
        return super().get_consumers(Consumer, channel)

    def __init__(self, channel: Any, *args: Any, **kwargs: Any) -> None:
        # Flower would wait twice as long after each failure, without an end: minutes, once an outage has lasted.
        channel.ensure_connection(_log_outage)
        super().__init__(channel, *args, **kwargs)

    def event_from_message(self, body: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Hide the arguments in a producer's event."""
        if body.get("type") == "task-sent":
            body |= {"args": "()", "kwargs": _SHOWN}
        return super().event_from_message(body, *args, **kwargs)

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, *args: Any, **kwargs: Any) -> None:
        """Note the connection that receives events."""
        flower_health.listen(channel.connection)
        super().on_consume_ready(connection, channel, consumers, *args, **kwargs)


def _log_outage(error: Exception, _: float) -> None:
    logger.warning("Redis cannot be reached (%s); retrying", type(error).__name__)


def _screen() -> Callable[[Any], Any]:
    warned = False

    def screen(published: Any) -> Any:
        nonlocal warned
        if is_of_events(published):
            return published
        if not warned:
            warned = True
            logger.warning(
                "ignored a publication on the channel of events that is not an event; further ones are not logged"
            )
        return None

    return screen


def is_of_events(raw: object) -> bool:
    """Return whether what was published is one or more events that can be shown."""
    try:
        entry = json.loads(raw)  # type: ignore[arg-type]  # TypeError is caught
        if entry["content-type"] != "application/json" or (entry.get("headers") or {}).get("compression"):
            return False
        properties, body = entry["properties"], entry["body"]
        properties["delivery_tag"], properties["delivery_info"].get("routing_key")  # kombu asks for both
        if properties.get("body_encoding") == "base64":
            body = base64.b64decode(body)
        found = json.loads(body)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return False
    return all(map(_can_be_shown, found if isinstance(found, list) else [found]))


def _can_be_shown(event: object) -> bool:
    if not isinstance(event, dict) or not {"type", "hostname", "timestamp"} <= event.keys():
        return False
    group, _, subject = str(event["type"]).partition("-")
    if group not in ("worker", "task") or not subject or (group == "task" and not event.get("uuid")):
        return False
    return all(_is_of(name, value) for name, value in event.items())


def _is_of(name: str, value: object) -> bool:
    if name in _NAMES:
        return isinstance(value, str) and 0 < len(value) < 256
    if name in _NUMBERS or name in _SIGNED:
        return _is_number(name, value)
    if name == "loadavg":
        return isinstance(value, list) and len(value) < 9 and all(isinstance(each, int | float) for each in value)
    if name not in _TEXTS | _OTHERS and (name in _TAKEN or not name.isidentifier()):
        return False
    plain = isinstance(value, bool | int | float) and name not in _TEXTS
    return value is None or plain or (isinstance(value, str) and len(value) <= _LONGEST)


def _is_number(name: str, value: object) -> bool:
    if value is None:
        return name not in ("timestamp", "clock", "freq", "utcoffset")
    low = -_LARGEST if name in _SIGNED else 0
    return isinstance(value, int | float) and math.isfinite(value) and low <= value <= _LARGEST


def mask() -> None:
    """Make Flower in this process use :class:`MaskingReceiver`."""
    events.EventReceiver = MaskingReceiver
