"""The app's connection to its broker: on bounded connections, comes back soon, and says so once."""

from collections.abc import Callable
from typing import Any, ClassVar, cast

from celery.app.amqp import AMQP
from kombu import Connection
from kombu.connection import ConnectionPool, PooledConnection

from cardtoken.connection import Endpoint
from tasks.broker.channel import Transport

#: Seconds between two tries to connect: the first, how much longer each next one is, and the longest. kombu's own go up
#: to half a minute, for all of which a server that is back would not be noticed.
_FIRST, _STEP, _LONGEST = 0.2, 0.4, 1.0


class _Led(Connection):
    """Lead to one Redis, for any URL that Celery was given, over the transport that this process has for it."""

    endpoint: ClassVar[Endpoint]
    #: A worker has one of its own, see :func:`tasks.broker.transport.install`.
    transport_class: ClassVar[type[Any]] = Transport

    def get_transport_cls(self) -> type[Any]:
        """Return the transport, the same for each kind of URL."""
        return _Led.transport_class


class SoonBack(_Led):
    """Reconnects soon, and reports only the first failure of an outage."""

    def ensure_connection(
        self, errback: Callable[..., Any] | None = None, max_retries: int | None = None, *_: Any, **kwargs: Any
    ) -> Any:
        reported = False

        def report(*args: Any) -> None:
            nonlocal reported
            if errback is not None and not reported:
                reported = True
                errback(*args)

        kwargs |= {"interval_start": _FIRST, "interval_step": _STEP, "interval_max": _LONGEST}
        return super().ensure_connection(report, max_retries, **kwargs)  # type: ignore[arg-type]  # None means for ever

    def Pool(self, limit: int | None = None, **kwargs: Any) -> ConnectionPool:  # noqa: N802 - kombu's name
        """Return a pool of connections to the same Redis; those of kombu's own pool would not lead there."""
        return _Pool(self, limit, **kwargs)


class _Pool(ConnectionPool):
    connection: _Led

    def new(self) -> Connection:
        pooled = type("Pooled", (PooledConnection, _Led), {"endpoint": self.connection.endpoint})
        return cast("Connection", pooled(self, **dict(self.connection._info(resolve=False))))  # noqa: SLF001


def use_transport(transport: type[Any]) -> None:
    """Give this transport to connections that are made from now on."""
    _Led.transport_class = transport


def amqp_of(endpoint: Endpoint) -> type[AMQP]:
    """Return Celery's own class with connections to that Redis."""
    connection = type("Connected", (SoonBack,), {"endpoint": endpoint})
    return type("Amqp", (AMQP,), {"Connection": connection})
