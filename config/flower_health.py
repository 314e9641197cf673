"""Whether Flower hears of Redis: what its ``/healthcheck`` says, which would say OK for ever."""

from time import monotonic
from typing import Any, Final

from flower import urls
from flower.views import BaseHandler, monitor

#: Seconds without a word from Redis, which is asked for one every few seconds, until Flower says that it is not well.
PATIENCE: Final = 20.0

#: The transport of the connection that Flower listens on, once there is one. It knows when it heard of Redis last.
_listening: Any = None


def listen(transport: Any) -> None:
    """Judge by this connection from now on."""
    global _listening  # noqa: PLW0603 - Flower makes its receiver and its handlers itself, and hands them nothing
    _listening = transport


def trouble() -> str | None:
    """Why Flower is not well; None where it is."""
    heard_at = _listening.heard_at if _listening is not None else None
    if heard_at is None:
        return "Redis was not reached yet"
    silent = monotonic() - heard_at
    return f"Redis is silent for {silent:.0f} s" if silent > PATIENCE else None


class Healthcheck(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """``/healthcheck``: 200 while Redis is heard, else 503 and why."""

    def get(self) -> None:
        words = trouble()
        if words is not None:
            self.set_status(503)
        self.write(words or "OK")


def install() -> None:
    """Let this process's Flower answer so."""
    for number, handler in enumerate(urls.handlers):
        if isinstance(handler, tuple) and handler[1] is monitor.Healthcheck:
            urls.handlers[number] = (handler[0], Healthcheck)
