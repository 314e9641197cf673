"""From a queue entry to what Celery takes: a canonical message, or a place in the quarantine."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from kombu.serialization import register

from tasks.broker.envelope import Envelope, MalformedError, open_envelope
from tasks.stores.quarantine import Quarantine
from tasks.telemetry.masking import describe

logger = logging.getLogger(__name__)

#: JSON that is read as JSON. kombu's own revives tagged objects, and a foreign message may hold anything.
CONTENT_TYPE: Final = "application/x-lookup+json"
#: Header in which a message's ``expires`` travels. Celery drops an expired message without a word; here each of its
#: lookups is answered.
EXPIRES_HEADER: Final = "lookup_expires"

register("lookup-json", json.dumps, json.loads, content_type=CONTENT_TYPE, content_encoding="utf-8")


class Intake:
    """The door between a queue and Celery."""

    def __init__(self, tasks: frozenset[str], limit: int, quarantine: Quarantine) -> None:
        self._tasks = tasks
        self._limit = limit
        self._quarantine = quarantine

    def admit(self, queue: str, raw: bytes) -> Mapping[str, Any] | None:
        """The entry as a message for kombu, or None when it went to quarantine."""
        try:
            envelope = open_envelope(raw, self._tasks, self._limit)
        except MalformedError as error:
            logger.warning("%s: an entry of %d bytes goes to quarantine: %s", queue, len(raw), error)
            self._quarantine.add(queue, raw, str(error))
            return None
        return canonical(envelope, queue)


def canonical(envelope: Envelope, queue: str) -> Mapping[str, Any]:
    """The message as kombu and Celery take it (protocol 2), with nothing in it that a producer could make them show.

    ``shadow``, ``argsrepr`` and the like end in logs, events and Flower, so they are not the producer's but ours; the
    queue is the list that the entry was found in; the delivery tag is fresh, as a producer may repeat one.
    """
    kwargs: dict[str, Any] = {"requests": envelope.requests}
    if envelope.retry is not None:
        kwargs["retry"] = envelope.retry
    return {
        "body": json.dumps([[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
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
            "eta": envelope.eta.isoformat() if envelope.eta else None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": describe(envelope.requests),
            "origin": None,
            "ignore_result": True,
            EXPIRES_HEADER: envelope.expires.isoformat() if envelope.expires else None,
        },
        "properties": {
            "correlation_id": envelope.id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": envelope.priority,
            "delivery_tag": str(uuid4()),
        },
    }
