"""kombu's Redis transport on connections of ``cardtoken.connection``: for workers, Flower and ``celery inspect`` alike.

kombu would make connections by itself, without a bound for what they wait for, and with its own meaning of a URL.
"""

from time import monotonic
from typing import Any, Final

from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str
from redis import ConnectionPool

from cardtoken.connection import Endpoint

#: Seconds between two looks at a subscribed connection. It is given up at the third without an answer to the first:
#: nothing is asked on it, so that its silence would never be noticed.
HEALTH_CHECK: Final = 3


class _Poller(stock.MultiChannelPoller):
    """Looks at subscribed connections where no event loop does: in Flower, and while a command waits for replies."""

    _checked_at = 0.0

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        if monotonic() - self._checked_at >= HEALTH_CHECK:
            self._checked_at = monotonic()
            self.maybe_check_subclient_health()
        return super().get(callback, timeout)


class Channel(stock.Channel):
    """A channel on bounded connections."""

    def screen(self, published: Any) -> Any:
        """Return what kombu is to read of something published to a channel of Redis; None: nothing. To be replaced."""
        return published

    def _handle_message(self, client: Any, r: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._handle_message(client, r)
        if bytes_to_str(payload["type"]).endswith("message"):
            payload["data"] = self.screen(payload["data"])
        return payload

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:
        """Return the pool for commands; ``asynchronous`` connections are polled, and leave it when they close."""
        endpoint: Endpoint = self.connection.endpoint
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=endpoint.parsed.db)
        return endpoint.pool(
            "cardtoken-celery",
            health_check_interval=HEALTH_CHECK,
            derive=self._polled if asynchronous else lambda connection: connection,
        )

    def _polled(self, connection_class: type[Any]) -> type[Any]:
        channel = self

        class Polled(connection_class):
            def disconnect(self, *args: Any, **kwargs: Any) -> None:
                super().disconnect(*args, **kwargs)
                if channel._registered:
                    channel._on_connection_disconnect(self)

        return Polled

    def _receive_one(self, client: Any) -> Any:
        """Read one message of a subscription, or an answer to a look at it."""
        received = super()._receive_one(client)
        self.connection.heard_at = monotonic()
        return received


class Transport(stock.Transport):
    """Used for each kind of URL: what they differ in is the endpoint's."""

    Channel = Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.endpoint: Endpoint = client.endpoint
        self.cycle = _Poller()
        #: When a subscription was heard of last, by the monotonic clock; None: not yet.
        self.heard_at: float | None = None
