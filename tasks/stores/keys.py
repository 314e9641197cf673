"""Names of what this service keeps in Redis for itself. None of them holds anything secret."""

import hashlib
import re
from typing import Final

#: Names of the result queues that have been written to, for the sweep.
RESULT_QUEUES: Final = "lookup:result-queues"
#: Held for as long as one worker of the fleet sweeps.
SWEEP_LOCK: Final = "lookup:sweep-lock"

_PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def published(task_id: str) -> str:
    """The set of the indexes that a task has published. An id that is no plain one stands there as its hash."""
    plain = task_id if _PLAIN_ID.fullmatch(task_id) else hashlib.sha256(task_id.encode()).hexdigest()
    return f"lookup:published:{plain}"
