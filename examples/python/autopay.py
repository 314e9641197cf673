"""A hundred thousand cards at night: ask for all, then collect what comes, in any order.

    python autopay.py 100000

The results queue is this job's own. What was read is acknowledged; what was not comes again when it is started anew.
Where Redis has a user for each role, REDIS_URL is the producer's and RESULTS_REDIS_URL the consumer's.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator

from cardtoken import Client

QUEUE = "autopay"


def cards(count: int) -> Iterator[dict[str, str]]:
    """Yours come from a database, a row at a time: nothing here keeps them all."""
    for number in range(count):
        yield {"opay_token": f"OPAY_TOKEN_{number:032x}", "lookup_id": f"invoice-{number}"}


def main(count: int) -> int:
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
    with Client(url) as producer, Client(os.environ.get("RESULTS_REDIS_URL", url)) as consumer:
        # In messages of up to 500; no more than 1,000 messages wait at a time, so that Redis' memory stays small.
        sent = producer.enqueue_many(cards(count), reply_to=QUEUE, max_queue_length=1_000)
        print(f"asked for {sent.requests} cards in {sent.messages} messages")
        ended: Counter[str] = Counter()
        with consumer.results(QUEUE, group="autopay", consumer="autopay-1", follow=True) as results:
            for result in results:
                ended[result.status] += 1
                if ended.total() == sent.requests:
                    break
    print(", ".join(f"{number} {status}" for status, number in ended.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
