"""Celery's view of a message in the worker, without what the message asks for."""

from typing import TYPE_CHECKING, Any

from celery.worker import state
from celery.worker.request import Request

from tasks.broker.delivery import REVOKED

if TYPE_CHECKING:
    from celery.worker.request import _InfoDict


class MaskedRequest(Request):
    """A request whose description never holds its arguments, and that no revocation makes disappear.

    ``celery inspect active`` (and so Flower's worker page) asks for the real ones; it gets the summary that the intake
    wrote. See ``tasks.telemetry.masking.describe``.
    """

    def info(self, safe: bool = False) -> "_InfoDict":  # noqa: ARG002 - the signature is Celery's
        return super().info(safe=True)

    def revoked(self) -> bool:
        """Return False, and note whether it was revoked: the task publishes its lookups as expired.

        Celery, which asks when a message arrives and again before it begins, would acknowledge it without a result.
        """
        self.request_dict[REVOKED] = self.id in state.revoked
        return False

    def on_retry(self, exc_info: Any) -> None:
        """Acknowledge, and send monitors the reason itself; Celery would send the repr of the exception around it."""
        self.acknowledge()
        self.send_event("task-retried", exception=str(exc_info.exception.exc.exc), traceback="")
