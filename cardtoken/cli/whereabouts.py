"""Where the messages of a bulk run are, and why no result comes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from cardtoken import keys
from cardtoken.scripts import source

if TYPE_CHECKING:
    from redis import Redis

    from cardtoken.circuits import CircuitState

#: Entries that are searched at a time: each may be of some 100 kB, and Redis does nothing else meanwhile.
_AT_ONCE: Final = 100


def are_there_any(redis: "Redis", queues: Iterable[str], text: str) -> bool:
    """Whether a message in which a text occurs waits in one of the queues, is delayed, or is in a worker's hands.

    Messages move meanwhile, so False is to be believed when it is said twice. Raises ``redis.RedisError``.
    """
    places = [(queue, "entries") for queue in queues]
    places += [(keys.given_back(queue), "ids") for queue in queues]
    places += [(keys.delayed(queue), "due") for queue in queues]
    script = redis.register_script(source(__package__, "search"))
    for key, kind in (*places, (keys.LEASES, "due")):
        start, read = 0, _AT_ONCE
        while read == _AT_ONCE:
            answer: Any = script(keys=[key], args=[kind, start, start + _AT_ONCE - 1, text])
            read, found = answer
            if found:
                return True
            start += read
    return False


def why_quiet(redis: "Redis", queues: Iterable[str]) -> str:
    """Why no result comes, in a sentence or two. Raises ``redis.RedisError``."""
    from cardtoken.circuits import not_closed
    from cardtoken.presence import presence

    queues = list(queues)
    providers = {queue.split(".")[1] for queue in queues}
    if shut := [_sentence(each) for each in not_closed(redis) if each.provider in providers]:
        return f"{'; '.join(shut)}. Lookups wait meanwhile and are tried again by themselves: `cardtoken circuit list`."
    consumed = {queue for worker in presence(redis).living for queue in worker.queues}
    if alone := [queue for queue in queues if queue not in consumed]:
        return f"No living worker takes from {', '.join(alone)}: `cardtoken status` shows more."
    waiting = sum(redis.llen(queue) for queue in queues)
    delayed = sum(redis.zcard(keys.delayed(queue)) for queue in queues)
    return (
        f"Workers are there; {waiting:,} messages wait, {delayed:,} are tried again later. `cardtoken status` shows "
        "more. Where workers have RESULT_QUEUES, name one of these with --reply-to."
    )


def _sentence(circuit: "CircuitState") -> str:
    whose = circuit.provider if circuit.account == "*" else f"{circuit.provider}, account {circuit.account},"
    left = f", for another {circuit.left:.0f} s" if circuit.left else ""
    reason = f" ({circuit.reason})" if circuit.reason else ""
    return f"{whose} is not asked now: its circuit is {circuit.state}{left}{reason}"
