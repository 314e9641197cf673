"""kombu's Redis transport, with every entry checked before kombu reads it.

Worker processes alone install it, under kombu's own names of schemes: producers and Flower keep kombu's transport, and
a dotted ``broker_transport`` would lose the TLS of ``rediss://``.
"""

from queue import Empty
from typing import Any

import kombu.transport
from kombu.transport import redis as stock

from tasks.broker.intake import Intake

_intake: Intake | None = None


class _Checked(stock.Channel):
    """A channel that lets nothing through that a task could not take."""

    # What the stubs leave out of the class above.
    connection_errors: tuple[type[Exception], ...]
    _queue_cycle: Any
    _flush_brpop_reauth: Any

    def _brpop_read(self, **options: Any) -> bool:
        # The same steps as in the class above, but for the reading of the entry.
        try:
            try:
                answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not answer:
                raise Empty
            key, raw = answer
            queue = key.decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            assert _intake is not None  # noqa: S101 - install() sets it before any channel can be made
            message = _intake.admit(queue, raw)
            if message is not None:
                self.connection._deliver(message, queue)  # noqa: SLF001 - as the class above does
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()


class Transport(stock.Transport):
    Channel = _Checked


class SentinelChannel(_Checked, stock.SentinelChannel):
    """The same behind Sentinel."""


class SentinelTransport(stock.SentinelTransport):
    Channel = SentinelChannel


def install(intake: Intake) -> None:
    """Make this process's broker connections use the checked transport."""
    global _intake  # noqa: PLW0603 - kombu makes channels itself and gives no way to hand them anything
    _intake = intake
    aliases = kombu.transport.TRANSPORT_ALIASES
    aliases["redis"] = aliases["rediss"] = f"{__name__}:Transport"
    aliases["sentinel"] = f"{__name__}:SentinelTransport"
