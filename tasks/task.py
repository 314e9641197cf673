"""The Celery tasks, one for each provider: one delivery in, results or a retry out."""

import logging
from collections.abc import Callable
from typing import Any, assert_never

from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry
from redis import RedisError

from cardtoken.error_description import describe_error
from cardtoken.keys import task_name
from tasks import crash_points
from tasks.broker.delivery import Delivery
from tasks.lookups.carried_state import RetryState
from tasks.processor import Deferred, Finished, MessageProcessor, Released, WorkerStoppingError
from tasks.telemetry import reports

logger = logging.getLogger(__name__)


class PendingLookupsError(Exception):
    """Why a message is delivered again: which failures are retried, and at which attempt they happened."""


def register(app: Celery, provider: str, processor_of_worker: Callable[[], MessageProcessor]) -> None:
    """Add the provider's task to the app. ``processor_of_worker`` is called when a message comes, not before."""

    @app.task(
        name=task_name(provider),
        bind=True,
        shared=False,  # of this app alone, not of every Celery app of the process
        typing=False,
        max_retries=None,
        Request="tasks.broker.request:MaskedRequest",
    )
    def lookup(self: "Task[..., str]", requests: list[object], retry: dict[str, Any] | None = None) -> str:
        crash_points.reached("begun")
        try:
            state = RetryState.model_validate(retry) if retry else None
            became = processor_of_worker().process(Delivery.from_request(self.request), requests, state)
        except WorkerStoppingError:
            raise Reject("the worker ends while Redis is away", requeue=True) from None
        except Exception as error:  # noqa: BLE001 - of any kind: the message must not disappear
            reports.unexpected(error)
            # Not its text, which may quote what it was given, and which Celery would send to monitors.
            logger.error("task %s ended in %s", self.request.id, describe_error(error))  # noqa: TRY400 - see above
            raise Reject("an unexpected error in this service", requeue=isinstance(error, RedisError)) from None
        match became:
            case Finished(summary):
                return summary
            case Deferred(due, reason):
                # The retry waits in Redis already. This acknowledges the message that it replaces, and lets monitors
                # show RETRY with the reason.
                raise Retry(exc=PendingLookupsError(reason), when=due)
            case Released():
                raise Ignore
            case _:
                assert_never(became)
