"""From a claimed queue entry to what becomes of it: a message for Celery, a wait in Redis, or the quarantine."""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kombu.serialization import register
from redis import RedisError

from tasks import crash_points
from tasks.broker.claims import Claim, Claims
from tasks.broker.delivery import Delivery
from tasks.broker.envelope import Envelope, MalformedError, open_envelope
from tasks.stores.clock import Clock
from tasks.stores.quarantine import Quarantine
from tasks.telemetry import metrics
from tasks.telemetry.masking import describe

logger = logging.getLogger(__name__)

#: A body that is decoded already. kombu's own JSON would revive tagged objects, and read it three times.
CONTENT_TYPE: Final = "application/x-lookup+json"
#: Seconds: clocks are not known more exactly.
_EXACT: Final = timedelta(seconds=1)

register("lookup", json.dumps, lambda body: body, content_type=CONTENT_TYPE, content_encoding="utf-8")


class Intake:
    """Takes entries of ``queues`` for Celery. ``limit``: bytes of a body once it is decompressed."""

    def __init__(
        self,
        tasks: frozenset[str],
        limit: int,
        claims: Claims,
        quarantine: Quarantine,
        queues: Iterable[str],
        *,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._limit = limit
        self._claims = claims
        self._quarantine = quarantine
        for queue in queues:
            metrics.QUARANTINED.labels(queue)  # exported from the start, at 0

    def admit(self, claim: Claim) -> Mapping[str, Any] | None:
        """Return the claim as a message for kombu, or None if it waits until it is due or went to quarantine."""
        try:
            if claim.entry is None:
                raise MalformedError("larger than the limit")  # noqa: TRY301 - one way out for everything that is not a message
            envelope = open_envelope(claim.entry, self._tasks, self._limit, deferred=claim.deferred)
        except MalformedError as error:
            logger.warning("%s: an entry of %d bytes goes to quarantine: %s", claim.queue, claim.size, error)
            self._quarantine.add(claim.id, str(error))
            metrics.QUARANTINED.labels(claim.queue).inc()
            crash_points.reached("quarantined")
            self._claims.forget(claim.id)
            return None
        # Redis decides when a deferred message is due: its eta may be by the clock of a worker that is wrong.
        now = self._clock.now()
        if envelope.eta is not None and envelope.eta > now and not claim.deferred:
            self._claims.postpone(claim, envelope.eta)
            crash_points.reached("postponed")
            return None
        return canonical(envelope, claim, now)

    def refuse(self, claim_id: str) -> None:
        """Quarantine a message that could neither be run nor failed: an error of this service must not lose it."""
        try:
            self._quarantine.add(claim_id, "an unexpected error in this service")
        except (RedisError, OSError):
            self._claims.release(claim_id)
        else:
            logger.error("a message goes to quarantine: an unexpected error in this service")
            self._claims.forget(claim_id)


def canonical(envelope: Envelope, claim: Claim, now: datetime) -> Mapping[str, Any]:
    """Return the message as kombu and Celery take it (protocol 2), without text of the producer's that they would show.

    ``shadow``, ``argsrepr`` and the like end in logs, events and Flower, so they are written here. The queue is the
    list that the entry was found in. The delivery tag is the claim's id, because producers may repeat one.
    """
    delivery = _delivery(envelope, claim, now)
    kwargs: dict[str, Any] = {"requests": envelope.requests}
    if envelope.retry is not None:
        kwargs["retry"] = envelope.retry
    return {
        "body": ([], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}),
        "content-type": CONTENT_TYPE,
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "root_id": delivery.task_id,
            "parent_id": None,
            "group": None,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": describe(delivery.provider, envelope.requests),
            "origin": None,
            "ignore_result": True,
            **delivery.to_headers(),
        },
        "properties": {
            "correlation_id": delivery.task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": delivery.queue},
            "priority": delivery.priority,
            "delivery_tag": delivery.claim_id,
        },
    }


def _delivery(envelope: Envelope, claim: Claim, now: datetime) -> Delivery:
    return Delivery(
        task=envelope.task,
        task_id=envelope.id,
        claim_id=claim.id,
        queue=claim.queue,
        priority=envelope.priority,
        retries=envelope.retries,
        # A retry may stand beside the message that it was to replace, if a worker died between the two.
        redelivered=claim.taken > 1 or envelope.retries > 0,
        deaths=claim.deaths,
        seen=now - timedelta(seconds=claim.age),
        early=_early(envelope, claim, now),
        expires=envelope.expires,
        replay_of=envelope.replay_of,
    )


def _early(envelope: Envelope, claim: Claim, now: datetime) -> timedelta:
    early = envelope.eta - now if claim.deferred and envelope.eta else timedelta()
    return early if early > _EXACT else timedelta()
