"""Celery's view of a message in the worker, without what the message asks for."""

from typing import TYPE_CHECKING, Any

from celery.worker.request import Request

if TYPE_CHECKING:
    from celery.worker.request import _InfoDict


class MaskedRequest(Request):
    """A request whose description never holds its arguments.

    ``celery inspect active`` (and so Flower's worker page) asks for the real ones; it gets the summary that the intake
    wrote. See ``tasks.telemetry.masking.describe``.
    """

    def info(self, safe: bool = False) -> "_InfoDict":  # noqa: ARG002 - the signature is Celery's
        return super().info(safe=True)

    def on_retry(self, exc_info: Any) -> None:
        """Acknowledge, and tell monitors the reason itself; Celery would tell them the repr of what wraps it."""
        self.acknowledge()
        self.send_event("task-retried", exception=str(exc_info.exception.exc.exc), traceback="")
