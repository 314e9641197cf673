"""Fences: by what Redis knows that a lookup's result is out. None of it holds anything secret."""

import hashlib
import re
from typing import Final

from cardtoken.keys import PUBLISHED_PREFIX

#: Seconds for which a second publication of the same task id and index is refused, at least.
FENCE_SECONDS: Final = 86_400
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def published(task_id: str) -> str:
    """Return the key of the set of the indexes that a task has published, as the release before wrote it.

    An id that is not a UUID stands there as its hash.

    It may say anything: a producer may make the card token the task's id, so as not to ask the same twice.
    """
    plain = task_id if _UUID.fullmatch(task_id) else hashlib.sha256(task_id.encode()).hexdigest()
    return PUBLISHED_PREFIX + plain


def fence(task_id: str, index: int) -> tuple[int, int]:
    """Return the bucket (32 bits) and the member (64 bits, signed) of a lookup's fence.

    Two of a million lookups a day have both in common, so that a result would be lost, once in ten million years.
    """
    digest = hashlib.blake2b(f"{task_id}:{index}".encode(), digest_size=12).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big", signed=True)
