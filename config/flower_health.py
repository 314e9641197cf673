"""Flower's ``/healthcheck``: whether it receives from Redis. Flower's own one always returns OK."""

from time import monotonic
from typing import Any, Final

from flower import urls
from flower.views import BaseHandler, monitor

#: Seconds of silence, on a connection that is checked every few seconds, after which Flower is unhealthy.
PATIENCE: Final = 20.0

#: The transport of the connection that receives events, once there is one. It knows when Redis last answered.
_listening: Any = None


def listen(transport: Any) -> None:
    """Judge Flower's health by this connection from now on."""
    global _listening  # noqa: PLW0603 - Flower makes its receiver and its handlers itself, and passes nothing to them
    _listening = transport


def trouble() -> str | None:
    """Return why Flower is unhealthy, or None."""
    heard_at = _listening.heard_at if _listening is not None else None
    if heard_at is None:
        return "Redis was not reached yet"
    silent = monotonic() - heard_at
    return f"Redis is silent for {silent:.0f} s" if silent > PATIENCE else None


class Healthcheck(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """``/healthcheck``: 200 while Redis answers, else 503 and the reason."""

    def get(self) -> None:
        words = trouble()
        if words is not None:
            self.set_status(503)
        self.write(words or "OK")


def install() -> None:
    """Make Flower in this process use :class:`Healthcheck`."""
    for number, handler in enumerate(urls.handlers):
        if isinstance(handler, tuple) and handler[1] is monitor.Healthcheck:
            urls.handlers[number] = (handler[0], Healthcheck)
