"""The worker's connection to its broker: comes back soon, and says so once."""

from collections.abc import Callable
from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection

#: Seconds between two tries to connect: the first, how much longer each next one is, and the longest. kombu's own go up
#: to half a minute, for all of which a server that is back would not be noticed.
_FIRST, _STEP, _LONGEST = 0.2, 0.4, 1.0


class SoonBack(Connection):
    """Tries often, and tells of the first failure of an outage alone."""

    def ensure_connection(
        self, errback: Callable[..., Any] | None = None, max_retries: int | None = None, *_: Any, **kwargs: Any
    ) -> Any:
        told = False

        def tell(*args: Any) -> None:
            nonlocal told
            if errback is not None and not told:
                told = True
                errback(*args)

        kwargs |= {"interval_start": _FIRST, "interval_step": _STEP, "interval_max": _LONGEST}
        return super().ensure_connection(tell, max_retries, **kwargs)  # type: ignore[arg-type]  # None means for ever


class Amqp(AMQP):
    """Celery's own, with that connection."""

    Connection = SoonBack
