"""Circuits in Redis: the accounts without calls, because the provider is down or an operator holds them open."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis

from cardtoken import keys

#: Circuits that opened by themselves: name → when one lookup may try again, in milliseconds.
OPEN: Final = keys.OPEN_CIRCUITS
#: Those of them whose provider asked to be left alone: name → category of its answer, and for how many milliseconds.
ASKED: Final = keys.ASKED_CIRCUITS
#: Circuits that an operator holds open: name → until when.
FORCED: Final = keys.FORCED_CIRCUITS
#: Why, and since when, an operator holds a circuit open.
_REASONS: Final = keys.CIRCUIT_REASONS
_COUNTS: Final = keys.CIRCUIT_PREFIX


def circuit_name(provider: str, account: str) -> str:
    """Return the name of an account's circuit."""
    return f"{provider}:{account}"


def whole(provider: str) -> str:
    """The name of the circuit of all accounts of a provider, which only people open."""
    return f"{provider}:*"


def circuit_key(name: str) -> str:
    """Return the key of a circuit's counts."""
    return _COUNTS + name


@dataclass(frozen=True, slots=True)
class CircuitState:
    """One circuit.

    ``state``: ``closed``; ``open``, because calls fail; ``paused``, because the provider asked to be left alone;
    ``trying``: the next lookup decides; ``held``, by a person. ``left`` is in seconds; ``good`` and ``bad`` are the
    calls of the last ten seconds or so.
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
    """Return every circuit that was used in the last day or is not closed."""
    keys: Any = list(redis.scan_iter(f"{_COUNTS}*", count=1000))
    return _states(redis, {key.decode().removeprefix(_COUNTS) for key in keys})


def not_closed(redis: Redis) -> list[CircuitState]:
    """Those that are open, or held open; scans nothing."""
    return [each for each in _states(redis, set()) if each.state != "closed"]


@dataclass(frozen=True, slots=True)
class _Known:
    """What Redis holds of the circuits that are not closed, by name; times in its own milliseconds."""

    now: float
    tripped: dict[str, float]
    held: dict[str, float]
    #: The category of the answer by which a provider asked to be left alone.
    asked: dict[str, str]


def _states(redis: Redis, names: set[str]) -> list[CircuitState]:
    now, tripped, forced = _now(redis), _scores(redis, OPEN), _scores(redis, FORCED)
    wishes: Any = redis.hgetall(ASKED) if tripped else {}
    known = _Known(
        now,
        tripped,
        {name: until for name, until in forced.items() if until > now},
        {name.decode(): value.decode().partition(" ")[0] for name, value in wishes.items()},
    )
    return [_state(redis, name, known) for name in sorted(names | set(tripped) | set(known.held))]


def _scores(redis: Redis, key: str) -> dict[str, float]:
    found: Any = redis.zrange(key, 0, -1, withscores=True)
    return {name.decode(): float(score) for name, score in found}


def _state(redis: Redis, name: str, known: _Known) -> CircuitState:
    provider, _, account = name.partition(":")
    found: Any = redis.hgetall(circuit_key(name))
    counts = {key.decode(): float(value) for key, value in found.items()}
    good, bad = int(counts.get("good", 0)), int(counts.get("bad", 0))
    if name in known.held:
        said: Any = redis.hget(_REASONS, name)
        why = json.loads(said) if said else {}
        left = (known.held[name] - known.now) / 1000
        return CircuitState(provider, account, "held", left, why.get("reason"), why.get("since"), good, bad)
    if name in known.tripped:
        left = max(0.0, (known.tripped[name] - known.now) / 1000)
        since = counts.get("opened", 0) / 1000 or None
        asked = known.asked.get(name)
        state = "trying" if not left else "paused" if asked else "open"
        reason = f"the provider asked to be left alone ({asked})" if asked else None
        return CircuitState(provider, account, state, left, reason, since, good, bad)
    return CircuitState(provider, account, "closed", good=good, bad=bad)


def hold_open(redis: Redis, provider: str, account: str, *, seconds: float, reason: str) -> None:
    """Hold the circuit of an account, or with ``*`` of a whole provider, open for so many seconds."""
    name = circuit_name(provider, account)
    now = _now(redis)
    with redis.pipeline() as pipeline:
        pipeline.zadd(FORCED, {name: now + seconds * 1000})
        pipeline.hset(_REASONS, name, json.dumps({"reason": reason, "since": now / 1000}))
        pipeline.execute()


def close(redis: Redis, provider: str, account: str) -> bool:
    """Close a circuit, opened by its calls or by an operator. Return whether it was open."""
    names = list(_meant(redis, provider, account))
    with redis.pipeline() as pipeline:
        for name in names:
            pipeline.zrem(OPEN, name)
            pipeline.zrem(FORCED, name)
            pipeline.hdel(ASKED, name)
            pipeline.hdel(_REASONS, name)
            pipeline.delete(circuit_key(name))
        answers = pipeline.execute()
    return any(answers[::5]) or any(answers[1::5])


def _meant(redis: Redis, provider: str, account: str) -> Iterator[str]:
    yield circuit_name(provider, account)
    if account == "*":
        for key in (OPEN, FORCED):
            found: Any = redis.zrange(key, 0, -1)
            yield from (name.decode() for name in found if name.decode().startswith(f"{provider}:"))


def _now(redis: Redis) -> float:
    seconds, micros = redis.time()
    return float(seconds * 1000 + micros / 1000)
