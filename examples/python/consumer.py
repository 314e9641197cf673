"""Read results as one of a group, until Ctrl-C. None is lost: where handling fails or a consumer dies, it comes again.

python consumer.py billing billing-1
"""

import os
import sys
from typing import Any

from cardtoken import Client


def handle(result: Any) -> None:
    """Yours: write it to a database. A result may come twice: `lookup_id` and `task_id` tell."""
    token = result.token
    print(f"{result.lookup_id}: {result.status} {token.brand if token else ''}".rstrip(), flush=True)


def main(group: str, consumer: str) -> int:
    with (
        Client(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")) as client,
        client.results("default", group=group, consumer=consumer, follow=True) as results,
    ):
        for result in results:  # acknowledged when the next one is asked for
            handle(result)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*(sys.argv[1:3] if len(sys.argv) > 2 else ("billing", "billing-1"))))
    except KeyboardInterrupt:
        sys.exit(0)
