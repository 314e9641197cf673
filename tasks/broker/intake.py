"""From a claimed queue entry to what Celery takes: a canonical message, a later time, or a place in the quarantine."""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kombu.serialization import register
from redis import RedisError

from tasks import crash_points
from tasks.broker.claims import Claim, Claims
from tasks.broker.envelope import Envelope, MalformedError, open_envelope
from tasks.stores.clock import Clock
from tasks.stores.quarantine import Quarantine
from tasks.telemetry import metrics
from tasks.telemetry.masking import describe

logger = logging.getLogger(__name__)

#: A body that is decoded already. kombu's own JSON would revive tagged objects, and read it three times.
CONTENT_TYPE: Final = "application/x-lookup+json"
#: Headers of our own: when the message expires (Celery drops an expired one without a word; here each of its lookups is
#: answered), how many workers have died with it, whether it was in a worker's hands before, when the first worker took
#: it, the task that it replays, and its claim.
EXPIRES: Final = "lookup_expires"
DEATHS: Final = "lookup_deaths"
REDELIVERED: Final = "lookup_redelivered"
SEEN: Final = "lookup_seen"
REPLAYED: Final = "lookup_replayed"
CLAIM: Final = "lookup_claim"
#: By how many seconds the moment that a deferred message was to come back at is still ahead: by so much a clock went
#: back, or another worker's is ahead.
EARLY: Final = "lookup_early"
#: Less than this is how exactly clocks are known.
_EXACT: Final = 1.0

register("lookup", json.dumps, lambda body: body, content_type=CONTENT_TYPE, content_encoding="utf-8")


class Intake:
    """The door between ``queues`` and Celery. ``limit``: bytes of a body once it is decompressed."""

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
            metrics.QUARANTINED.labels(queue)  # from the start, at 0

    def admit(self, claim: Claim) -> Mapping[str, Any] | None:
        """The claim as a message for kombu, or None when it waits for its time or went to quarantine."""
        try:
            if claim.entry is None:
                raise MalformedError("larger than the limit")  # noqa: TRY301 - one way out for all that is no message
            envelope = open_envelope(claim.entry, self._tasks, self._limit, deferred=claim.deferred)
        except MalformedError as error:
            logger.warning("%s: an entry of %d bytes goes to quarantine: %s", claim.queue, claim.size, error)
            self._quarantine.add(claim.id, str(error))
            metrics.QUARANTINED.labels(claim.queue).inc()
            crash_points.reached("quarantined")
            self._claims.forget(claim.id)
            return None
        # When a deferred message is due is Redis' to say: its eta may be by the clock of a worker that is wrong.
        now = self._clock.now()
        if envelope.eta is not None and envelope.eta > now and not claim.deferred:
            self._claims.postpone(claim, envelope.eta)
            crash_points.reached("postponed")
            return None
        return canonical(envelope, claim, now)

    def refuse(self, claim_id: str) -> None:
        """Put away a message that this service could neither run nor fail: an error of ours must not lose it."""
        try:
            self._quarantine.add(claim_id, "an unexpected error in this service")
        except (RedisError, OSError):
            self._claims.release(claim_id)
        else:
            logger.error("a message goes to quarantine: an unexpected error in this service")
            self._claims.forget(claim_id)


def canonical(envelope: Envelope, claim: Claim, now: datetime) -> Mapping[str, Any]:
    """The message as kombu and Celery take it (protocol 2), with nothing in it that a producer could make them show.

    ``shadow``, ``argsrepr`` and the like end in logs, events and Flower, so they are not the producer's but ours; the
    queue is the list that the entry was found in; the delivery tag is the claim's id, as a producer may repeat one.
    """
    kwargs: dict[str, Any] = {"requests": envelope.requests}
    if envelope.retry is not None:
        kwargs["retry"] = envelope.retry
    return {
        "body": ([], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}),
        "content-type": CONTENT_TYPE,
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": envelope.task,
            "id": envelope.id,
            "root_id": envelope.id,
            "parent_id": None,
            "group": None,
            "retries": envelope.retries,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": describe(envelope.task.removeprefix("lookup."), envelope.requests),
            "origin": None,
            "ignore_result": True,
            EXPIRES: envelope.expires.isoformat() if envelope.expires else None,
            CLAIM: claim.id,
            SEEN: (now - timedelta(seconds=claim.age)).isoformat(),
            EARLY: _seconds_early(envelope, claim, now),
            REPLAYED: envelope.replay_of,
            DEATHS: claim.deaths,
            # A retry may stand beside the message that it was to replace, if a worker died between the two.
            REDELIVERED: claim.taken > 1 or envelope.retries > 0,
        },
        "properties": {
            "correlation_id": envelope.id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": claim.queue},
            "priority": envelope.priority,
            "delivery_tag": claim.id,
        },
    }


def _seconds_early(envelope: Envelope, claim: Claim, now: datetime) -> float:
    early = (envelope.eta - now).total_seconds() if claim.deferred and envelope.eta else 0.0
    return early if early > _EXACT else 0.0
