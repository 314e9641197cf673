"""The worker's transport: kombu's own for everything but the lookup queues, which are claimed and not popped.

Worker processes alone install it: producers keep kombu's transport, and Flower has it on bounded connections.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic, sleep
from typing import Any, ClassVar, Final

from celery.exceptions import ImproperlyConfigured
from celery.worker.state import maybe_shutdown
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis import Redis, RedisError, ResponseError
from redis.exceptions import NoPermissionError

from tasks.broker import channel
from tasks.broker.claims import Claim, Claims
from tasks.broker.connection import use_transport
from tasks.broker.heartbeat import LoopHeartbeat
from tasks.broker.intake import Intake
from tasks.broker.queue_consumer import QueueConsumer
from tasks.broker.queue_limits import QueueLimits
from tasks.broker.remote_control import command

logger = logging.getLogger(__name__)

#: Seconds between two attempts to write to a server that takes no writes.
_REFUSED_PAUSE: Final = 1.0
#: Seconds after which that is logged again.
_LOG_AGAIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class Broker:
    """What the transport works with in this process."""

    redis: Redis
    claims: Claims
    intake: Intake
    heartbeat: LoopHeartbeat
    queue_limits: QueueLimits
    queues: frozenset[str]
    #: Messages that the worker runs at once.
    slots: int
    #: The worker's node name, and the exchange of replies to remote control.
    name: str
    reply_exchange: str


_broker: Broker | None = None


def _installed() -> Broker:
    if _broker is None:
        raise RuntimeError("install() comes before the first connection")
    return _broker


class _QoS(virtual.QoS):
    """Counts messages in hand. Claims outlive the channel: a lost connection ends no lookup that has begun."""

    def ack(self, delivery_tag: str) -> None:
        super().ack(delivery_tag)
        _installed().claims.end(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._quick_ack(delivery_tag)
        broker = _installed()
        if requeue:
            broker.claims.release(delivery_tag)
        else:
            broker.intake.refuse(delivery_tag)

    def room(self) -> int | None:
        """Return how many messages may be claimed; None: any number. Those of an earlier channel take up room too."""
        estimate = self.can_consume_max_estimate()
        if not self.prefetch_count:
            return estimate
        room = self.prefetch_count - len(_installed().claims)
        return max(0, room if estimate is None else min(room, estimate))

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - the signature is kombu's
        """Restore nothing: what is unfinished when the worker ends is released then."""
        self._on_collect.cancel()


class _Claiming(channel.Channel):
    """A channel on which lookup queues are claimed."""

    QoS = _QoS
    _consumer: QueueConsumer | None = None
    #: When it was logged last that Redis takes no writes, for all channels.
    refusal_logged_at: ClassVar[float] = -inf
    #: How many clients received the latest broadcast; None: there was none yet, or Redis did not answer.
    receivers: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = _QoS  # the class above sets its own where acknowledgement is not emulated

    @property
    def active_queues(self) -> list[str]:
        """Return the queues that kombu pops: none of this service's."""
        ours = _installed().queues
        return [queue for queue in super().active_queues if queue not in ours]

    def _size(self, queue: str) -> int:
        """Return 0 for a lookup queue: kombu asks for the length of each that it declares, and has no use for it."""
        return 0 if queue in _installed().queues else super()._size(queue)

    def _queue_bind(self, *args: Any, **kwargs: Any) -> None:
        """Bind a queue: the first write on a connection, refused by a server that is a replica, lacks some or is full.

        Celery would end the worker for that. It passes, so the thread waits; it is logged once for all that wait.
        """
        while True:
            try:
                super()._queue_bind(*args, **kwargs)
            except NoPermissionError as error:
                raise ImproperlyConfigured(f"the user of REDIS_URL may not do what a worker must: {error}") from None
            except ResponseError as error:
                if monotonic() - _Claiming.refusal_logged_at > _LOG_AGAIN:
                    _Claiming.refusal_logged_at = monotonic()
                    why = str(error).rpartition("caused error: ")[2]
                    logger.warning("Redis takes no writes (%.200s); retrying", why)
                sleep(_REFUSED_PAUSE)
                maybe_shutdown()
                # The same name may lead to another server by now.
                self.pool.disconnect(inuse_connections=False)
            else:
                return

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        broker = _installed()
        if queue not in broker.queues and queue not in self._fanout_queues:
            # kombu would pop its entries, and what is popped is lost with the worker.
            logger.error("%.255r is not a queue of this service: it is not consumed", queue)
            return None
        answer = super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue in self.active_fanout_queues and self.connection.hub is not None:
            # Remote control: subscribed to now and not at the loop's first tick, so that a worker that is ready obeys.
            poller: Any = self.connection.cycle
            poller._register_LISTEN(self)  # noqa: SLF001 - what kombu calls at that tick
        if queue in broker.queues:
            if self._consumer is None:
                self._consumer = QueueConsumer(
                    broker.redis,
                    broker.claims,
                    broker.heartbeat,
                    broker.queue_limits,
                    hub=self.connection.hub,
                    room=self.qos.room,
                    slots=broker.slots,
                )
            self._consumer.consume(queue, self._deliver_to(queue))
        return answer

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        if self._consumer is not None and queue in _installed().queues:
            self._consumer.cancel(queue)
        return super()._basic_cancel(consumer_tag)

    def _deliver_to(self, queue: str) -> Callable[[Claim], None]:
        intake, deliver = _installed().intake, self.connection._callbacks[queue]  # noqa: SLF001 - kombu's own way

        def delivered(claim: Claim) -> None:
            message = intake.admit(claim)
            if message is not None:
                deliver(message)

        return delivered

    def screen(self, published: Any) -> Any:
        """Return a command of remote control in its canonical form, or None for anything else."""
        broker = _installed()
        message = command(published, broker.name, broker.reply_exchange)
        return None if message is None else dumps(message)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        """Publish as kombu does, and keep how many clients received it."""
        self.receivers = None
        if kwargs.get("_publish_batch") is not None:
            super()._put_fanout(exchange, message, routing_key, **kwargs)
            return
        payload = dumps(message)
        with self.conn_or_acquire() as client:
            heard = [client.publish(topic, payload) for topic in self._get_publish_topics(exchange, routing_key)]
        self.receivers = sum(heard)

    def maybe_refresh_binding_expiry(self) -> None:
        """Refresh as kombu does, every second; without a traceback if Redis refuses: that is logged already."""
        with suppress(RedisError):
            super().maybe_refresh_binding_expiry()

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
            # Celery forgets what waits for a thread, or for a rate limit, when its connection is lost.
            _installed().claims.release_unbegun()
        super().close()


class Transport(channel.Transport):
    """Keeps the event loop for the queue consumers of its channels."""

    Channel = _Claiming
    hub: Any = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self.hub = loop
        super().register_with_event_loop(connection, loop)


def install(broker: Broker) -> None:
    """Make this process's broker connections use the claiming transport."""
    global _broker  # noqa: PLW0603 - kombu makes channels itself and gives no way to hand them anything
    _broker = broker
    use_transport(Transport)
