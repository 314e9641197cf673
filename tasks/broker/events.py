"""Celery's task events, for Flower, sent a few times a second and many at a time."""

import contextlib
import weakref
from typing import Any, Final

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

#: Seconds between two flushes. Celery's own come with each turn of the event loop: a tenth of a busy worker's time.
PAUSE: Final = 0.25
#: So many events are sent at once, before the next flush.
_MOST: Final = 1_000

_dispatchers: "weakref.WeakSet[BatchedDispatcher]" = weakref.WeakSet()


class BatchedDispatcher(EventDispatcher):
    """Keeps events of tasks until :func:`flush` comes round."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "buffer_limit": _MOST, "on_send_buffered": None})
        _dispatchers.add(self)

    def _publish(self, event: Any, producer: Any, routing_key: str, **kwargs: Any) -> None:
        # Of many events the first is written and sent, and the others only where a monitor heard it:
        # to write them all takes a twentieth of a busy worker's time.
        if isinstance(event, list) and _without_listener(producer):
            super()._publish(event[:1], producer, routing_key, **kwargs)  # type: ignore[misc]  # the stubs leave it out
            event = event[1:]
            if not event or _without_listener(producer):
                return
        super()._publish(event, producer, routing_key, **kwargs)  # type: ignore[misc]

    def close(self) -> None:
        """Send what is left, and close."""
        with contextlib.suppress(Exception):  # of any kind: nothing waits for events
            self.flush()
        super().close()


def _without_listener(producer: Any) -> bool:
    return producer is not None and getattr(producer.channel, "receivers", None) == 0


class BatchedEvents(Events):
    """Makes Celery's dispatchers."""

    dispatcher_cls = f"{__name__}:BatchedDispatcher"


def flush() -> None:
    """Send the events that have gathered."""
    for dispatcher in list(_dispatchers):
        if dispatcher.enabled:
            dispatcher.flush()
