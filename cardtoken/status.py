"""The state of the service: Redis, workers, queues, messages that wait, dead letters, and consumers of results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis, ResponseError
from redis.exceptions import NoPermissionError

from cardtoken import keys
from cardtoken.circuits import CircuitState, not_closed
from cardtoken.contract import Lane
from cardtoken.keys import DEAD_LETTERS, LEASES, QUARANTINE, RESULT_QUEUES, RESULT_STREAM_PREFIX, given_back, queue_name
from cardtoken.other_lists import OtherList, other_lists
from cardtoken.presence import FleetReport, SilentWorker, WorkerReport, presence
from cardtoken.providers import PROVIDERS
from cardtoken.queue_entry import requests_of
from cardtoken.waiting import QueueCount, WaitingLookups, lists_of

#: Bytes of a queue's oldest entry that are worth reading for its age.
_READABLE = 1 << 20


@dataclass(frozen=True, slots=True)
class Server:
    """The Redis server. Sizes are in bytes; ``memory_limit`` is 0 where there is none."""

    version: str
    memory: int
    memory_limit: int
    policy: str
    append_only: bool
    clients: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A lookup queue. ``waiting`` messages include those given back, ``delayed`` wait for their time.

    ``oldest`` is the age in seconds of the oldest waiting message, where its producer stamped ``requested_at``.
    ``workers`` are living ones; ``silent`` names those that took from it and have gone silent without being replaced.
    ``lookups`` are those that a worker could take now, in ``waiting`` messages and in delayed ones whose time has come;
    None where nothing has counted them yet.
    """

    name: str
    waiting: int
    delayed: int
    oldest: float | None
    workers: int
    silent: tuple[str, ...] = ()
    lookups: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group of a result queue. ``lag``: results not yet delivered to it; None where Redis does not know."""

    name: str
    consumers: int
    pending: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class ResultQueue:
    name: str
    results: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The state of the whole service. ``overdue`` claims are those whose worker has not renewed the lease in time."""

    at: str
    server: Server
    workers: tuple[WorkerReport, ...]
    queues: tuple[Queue, ...]
    claimed: int
    overdue: int
    dead_letters: int
    quarantine: int
    result_queues: tuple[ResultQueue, ...]
    #: Those that are not closed.
    circuits: tuple[CircuitState, ...]
    #: Workers that did not end in order and no longer report.
    silent: tuple[SilentWorker, ...] = ()
    #: Lists that are named like a queue and that no worker takes from.
    stray_lists: tuple[OtherList, ...] = ()

    @property
    def attention(self) -> list[str]:
        """Return what an operator should act on: sentences that name what to do."""
        found = [*_of_server(self.server), *_of_workers(self.workers, self.silent), *_of_queues(self.queues)]
        return found + [_of_list(each) for each in self.stray_lists] + [_of_circuit(each) for each in self.circuits]

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        workers, silent = ([each.document() for each in found] for found in (self.workers, self.silent))
        return {**asdict(self), "workers": workers, "silent": silent, "attention": self.attention}


def _of_server(server: Server) -> list[str]:
    sentences = []
    if server.policy != "noeviction":
        sentences.append(f"Redis may throw messages away: set maxmemory-policy to noeviction, it is {server.policy}.")
    if server.memory_limit and server.memory > 0.9 * server.memory_limit:
        sentences.append(
            "Redis' memory is more than 90 % full: workers wait when it is full. "
            "Raise maxmemory, or lower RESULT_RETENTION."
        )
    if not server.append_only:
        sentences.append("Redis keeps no append-only file: a restart loses what waits. Set appendonly yes.")
    return sentences


def _of_workers(found: Sequence[WorkerReport], silent: Sequence[SilentWorker]) -> list[str]:
    sentences = [f"{worker.name}: {worker.trouble}; restart it." for worker in found if worker.trouble]
    sentences += [f"{worker.name}: {worker.warning}." for worker in found if worker.warning]
    sentences += [f"{worker.name}: {worker.trouble}; restart it." for worker in silent if worker.is_recent]
    return sentences if found else ["There is no living worker: start one with `celery -A tasks worker`.", *sentences]


def _of_queues(queues: Sequence[Queue]) -> list[str]:
    sentences = []
    for queue in queues:
        if queue.workers:
            continue
        messages = queue.waiting + queue.delayed
        waiting = f"{messages} message{'s'[: messages != 1]} and " if messages else ""
        if queue.silent:
            names = ", ".join(queue.silent[:3]) + " …" * (len(queue.silent) > 3)
            sentences.append(f"{queue.name}: {waiting}no living worker, since {names} went silent; restart it.")
        elif messages:
            sentences.append(f"{queue.name}: {waiting}no worker to consume it; start one with -Q.")
    return sentences


def _of_list(found: OtherList) -> str:
    return (
        f"{found.name!a}: {found.waiting} message{'s'[: found.waiting != 1]} in a list that no worker takes from; "
        "correct the producer, or see PRIORITY_SEPARATORS and PRIORITY_STEPS."
    )


def _of_circuit(circuit: CircuitState) -> str:
    who = f"{circuit.provider}, {'all accounts' if circuit.account == '*' else f'account {circuit.account}'}"
    if circuit.state == "held":
        return f"{who}: held open by an operator ({circuit.reason}); `cardtoken circuit close` ends it."
    if circuit.state == "paused":
        return f"{who}: not asked, because {circuit.reason}; asked again by itself, in {circuit.left or 0:.0f} s."
    return f"{who}: not asked, because it is sick; tried again by itself, see `cardtoken circuit list`."


def look(redis: Redis, waiting: WaitingLookups | None = None) -> ServiceStatus:
    """Read the state once, with a few dozen commands, none of which scans. Raises ``redis.RedisError``.

    ``waiting`` knows how many lookups wait; one that looks again and again keeps it.
    """
    waiting = waiting or WaitingLookups(redis)
    found = presence(redis)
    there = found.living
    # By Redis' clock, as all that is compared with it.
    now = datetime.fromtimestamp(found.at, UTC)
    names = [queue_name(provider, lane) for provider in PROVIDERS for lane in Lane]
    taken = {queue for worker in there for queue in worker.queues}
    taken |= {queue for worker in found.silent for queue in worker.queues}
    names += sorted(taken - set(names))
    others = other_lists(redis)
    counts = _counts(waiting, names, others)
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.zcard(LEASES)
        pipeline.zcount(LEASES, "-inf", found.at * 1000)
        pipeline.xlen(DEAD_LETTERS)
        pipeline.xlen(QUARANTINE)
        claimed, overdue, dead, odd = pipeline.execute()
    return ServiceStatus(
        at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        server=_server(redis),
        workers=there,
        silent=found.silent,
        queues=tuple(_queue(redis, name, found, others, counts.get(name)) for name in names),
        stray_lists=tuple(each for each in others if not each.queue),
        claimed=claimed,
        overdue=overdue,
        dead_letters=dead,
        quarantine=odd,
        result_queues=tuple(_result_queues(redis)),
        circuits=tuple(not_closed(redis)),
    )


def _server(redis: Redis) -> Server:
    info: Any = redis.info()
    name = "Valkey" if "valkey_version" in info else "Redis"
    return Server(
        version=f"{name} {info.get('valkey_version', info.get('redis_version'))}",
        memory=int(info.get("used_memory", 0)),
        memory_limit=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "noeviction")),
        append_only=bool(info.get("aof_enabled")),
        clients=int(info.get("connected_clients", 0)),
    )


def _counts(waiting: WaitingLookups, names: Sequence[str], others: Sequence[OtherList]) -> Mapping[str, QueueCount]:
    try:
        return waiting.of({name: lists_of(name, others) for name in names})
    except NoPermissionError:  # a user who may not read what waits sees all the rest
        return {}


def _queue(redis: Redis, name: str, there: FleetReport, others: Sequence[OtherList], count: QueueCount | None) -> Queue:
    with redis.pipeline(transaction=False) as pipeline:
        for each in (*lists_of(name, others), given_back(name)):
            pipeline.llen(each)
        pipeline.zcard(keys.delayed(name))
        pipeline.zcount(keys.delayed(name), "-inf", there.at * 1000)
        *lists, delayed, due = pipeline.execute()
    consumers = sum(name in worker.queues for worker in there.living)
    silent = tuple(worker.name for worker in there.silent if name in worker.queues)
    waiting = sum(lists)
    oldest = _age(redis.lindex(name, -1), datetime.fromtimestamp(there.at, UTC)) if lists[0] else None
    lookups = None if count is None else count.lookups_of(waiting + due)
    return Queue(name, waiting, delayed, oldest, consumers, silent, lookups)


def _age(entry: Any, now: datetime) -> float | None:
    """Seconds since the first request of an entry was made, if it says so. An entry may be anything."""
    try:
        if len(entry) > _READABLE:
            return None
        then = datetime.fromisoformat((requests_of(entry) or [])[0]["requested_at"])
        return max(0.0, (now - then).total_seconds())
    except (ValueError, TypeError, LookupError):
        return None


def _result_queues(redis: Redis) -> list[ResultQueue]:
    found: Any = redis.smembers(RESULT_QUEUES)
    queues = []
    for stream in sorted(each.decode() for each in found):
        try:
            length, groups = redis.xlen(stream), redis.xinfo_groups(stream)
        except ResponseError:  # deleted meanwhile, or another's key
            continue
        queues.append(ResultQueue(stream.removeprefix(RESULT_STREAM_PREFIX), length, tuple(map(_group, groups))))
    return queues


def _group(info: dict[str, Any]) -> Group:
    lag = info.get("lag")
    return Group(info["name"].decode(), info["consumers"], info["pending"], None if lag is None else int(lag))
