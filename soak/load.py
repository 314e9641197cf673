"""The work that workers are disturbed in, and the moments at which they are."""

import random
import time
from collections.abc import Callable, Iterator

from sandbox.ledger import Ledger
from sandbox.messages import entry, queue_of, raw
from soak.record import Plan

LIST = 20
#: No disturbance comes later in the work than this share of it, so that there is work in hand each time.
_LATEST = 0.95
_STUCK = 60.0


Message = tuple[str, str, list[dict[str, str]]]


def half_and_half(
    ledger: Ledger,
    lookups: int,
    chance: random.Random,
    *,
    tried_again: float = 0.05,
    push: Callable[[list[Message]], None] | None = None,
) -> None:
    """Send so many lookups, half of them alone and half in lists of 20, mixed; some only succeed at a second call.

    ``push`` gets provider, task id and requests of each message, where they are not to be pushed as they are.
    """
    messages: list[Message] = []
    sizes = [1] * (lookups - lookups // 2) + [LIST] * (lookups // 2 // LIST)
    chance.shuffle(sizes)
    number = 0
    for size in sizes:
        references = []
        for _ in range(size):
            number += 1
            again = chance.random() < tried_again
            references.append(f"timeout-1~{number}" if again else f"{chance.getrandbits(128):032x}")
        provider = "afterpay" if chance.random() < 0.25 else "opay"
        messages.append((provider, *ledger.sending(provider, references)))
    if push is not None:
        push(messages)
        return
    ledger.push([(queue_of(name, "bulk"), raw(entry(name, task_id, asked))) for name, task_id, asked in messages])


def moments(plan: Plan, ledger: Ledger, count: int, doing: str) -> Iterator[int]:
    """Comes back at so many random moments of the work, which are spread over the whole of it."""
    chance = plan.chance("moments")
    total = len(ledger.sent)
    marks = sorted(chance.uniform(0, _LATEST) * total for _ in range(count))
    for number, mark in enumerate(marks):
        reached(ledger, mark, lambda out, number=number: plan.progress(out, total, f"{doing} {number} of {count}"))  # type: ignore[misc]  # mypy takes the default for a second argument
        # Not in step with a publication.
        time.sleep(chance.uniform(0, 0.05))
        yield number


def reached(ledger: Ledger, mark: float, report: Callable[[int], None]) -> None:
    """Wait until so many results are out; goes on where nothing comes any more."""
    seen, last = -1, time.monotonic()
    while (out := ledger.out()) < mark and time.monotonic() - last < _STUCK:
        if out > seen:
            seen, last = out, time.monotonic()
            report(out)
        time.sleep(0.02)
