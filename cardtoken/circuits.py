"""Circuits in Redis: which accounts of which providers are not asked, because they are sick or somebody says so."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis

#: Circuits that opened by themselves: name → when one lookup may try again, in milliseconds.
OPEN: Final = "lookup:circuits"
#: Circuits that somebody holds open: name → until when.
FORCED: Final = "lookup:circuits:forced"
#: Why, and since when, somebody holds a circuit open.
_REASONS: Final = "lookup:circuits:reasons"
_COUNTS: Final = "lookup:circuit:"


def circuit_name(provider: str, account: str) -> str:
    """The name of an account's circuit."""
    return f"{provider}:{account}"


def whole(provider: str) -> str:
    """The name of the circuit of all accounts of a provider, which only people open."""
    return f"{provider}:*"


def circuit_key(name: str) -> str:
    """The hash of a circuit's counts."""
    return _COUNTS + name


@dataclass(frozen=True, slots=True)
class CircuitState:
    """One circuit. ``state``: ``closed``, ``open``, ``trying`` (the next lookup decides) or ``held``.

    ``left`` is in seconds; ``good`` and ``bad`` are the calls of the last ten seconds or so.
    """

    provider: str
    account: str
    state: str
    left: float | None = None
    reason: str | None = None
    since: float | None = None
    good: int = 0
    bad: int = 0


def circuits(redis: Redis) -> list[CircuitState]:
    """Every circuit that was used in the last day or is not closed."""
    keys: Any = list(redis.scan_iter(f"{_COUNTS}*", count=1000))
    return _states(redis, {key.decode().removeprefix(_COUNTS) for key in keys})


def not_closed(redis: Redis) -> list[CircuitState]:
    """Those that are open, or held open; scans nothing."""
    return [each for each in _states(redis, set()) if each.state != "closed"]


def _states(redis: Redis, names: set[str]) -> list[CircuitState]:
    now, tripped, forced = _now(redis), _scores(redis, OPEN), _scores(redis, FORCED)
    held = {name: until for name, until in forced.items() if until > now}
    return [
        _state(redis, name, now, tripped.get(name), held.get(name)) for name in sorted(names | set(tripped) | set(held))
    ]


def _scores(redis: Redis, key: str) -> dict[str, float]:
    found: Any = redis.zrange(key, 0, -1, withscores=True)
    return {name.decode(): float(score) for name, score in found}


def _state(redis: Redis, name: str, now: float, again: float | None, until: float | None) -> CircuitState:
    provider, _, account = name.partition(":")
    found: Any = redis.hgetall(circuit_key(name))
    counts = {key.decode(): float(value) for key, value in found.items()}
    good, bad = int(counts.get("good", 0)), int(counts.get("bad", 0))
    if until is not None:
        said: Any = redis.hget(_REASONS, name)
        why = json.loads(said) if said else {}
        left = (until - now) / 1000
        return CircuitState(provider, account, "held", left, why.get("reason"), why.get("since"), good, bad)
    if again is not None:
        left = max(0.0, (again - now) / 1000)
        since = counts.get("opened", 0) / 1000 or None
        return CircuitState(provider, account, "open" if left else "trying", left, None, since, good, bad)
    return CircuitState(provider, account, "closed", good=good, bad=bad)


def hold_open(redis: Redis, provider: str, account: str, *, seconds: float, reason: str) -> None:
    """Ask an account, or with ``*`` a whole provider, nothing for so long."""
    name = circuit_name(provider, account)
    with redis.pipeline() as pipeline:
        pipeline.zadd(FORCED, {name: _now(redis) + seconds * 1000})
        pipeline.hset(_REASONS, name, json.dumps({"reason": reason, "since": time.time()}))
        pipeline.execute()


def close(redis: Redis, provider: str, account: str) -> bool:
    """Close a circuit, whatever opened it; whether there was anything to close."""
    names = list(_meant(redis, provider, account))
    with redis.pipeline() as pipeline:
        for name in names:
            pipeline.zrem(OPEN, name)
            pipeline.zrem(FORCED, name)
            pipeline.hdel(_REASONS, name)
            pipeline.delete(circuit_key(name))
        answers = pipeline.execute()
    return any(answers[::4]) or any(answers[1::4])


def _meant(redis: Redis, provider: str, account: str) -> Iterator[str]:
    yield circuit_name(provider, account)
    if account == "*":
        for key in (OPEN, FORCED):
            found: Any = redis.zrange(key, 0, -1)
            yield from (name.decode() for name in found if name.decode().startswith(f"{provider}:"))


def _now(redis: Redis) -> float:
    seconds, micros = redis.time()
    return float(seconds * 1000 + micros / 1000)
