"""The queue entry of a retry: what a worker writes for a later delivery, which may be another release's to read."""

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from tasks.broker.delivery import MOST_RETRIES, Delivery
from tasks.lookups.carried_state import RetryState
from tasks.telemetry.masking import describe


def retry_entry(delivery: Delivery, requests: Sequence[object], state: RetryState, due: datetime) -> bytes:
    """Return the entry for the lookups that a delivery leaves, due at that moment: Celery's protocol 2 in kombu's form.

    ``requests`` are as the producer sent them, ``state`` is how far each has come.
    """
    kwargs = {"requests": requests, "retry": state.model_dump(mode="json")}
    body = [[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    entry = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": delivery.task,
            "id": delivery.task_id,
            "shadow": None,
            "eta": due.isoformat(),
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": min(delivery.retries + 1, MOST_RETRIES),
            "timelimit": [None, None],
            "root_id": delivery.task_id,
            "parent_id": None,
            "argsrepr": "()",
            "kwargsrepr": describe(delivery.provider, requests),
            "origin": None,
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": delivery.task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": delivery.queue},
            "priority": delivery.priority,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
    return json.dumps(entry).encode()
