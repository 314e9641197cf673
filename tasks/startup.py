"""Preflight checks: what must be right before a worker takes its first message."""

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis import AuthenticationError, Redis, RedisError, ResponseError
from redis.exceptions import ClusterDownError, MasterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError

from cardtoken.backoff import Backoff
from cardtoken.bounded import UnusableServerError
from tasks.providers import PROVIDERS

logger = logging.getLogger(__name__)

_OLDEST_REDIS = (6, 2)
_PREFORK = re.compile(r"(^|\s)(-P\s*|--pool[=\s])prefork(\s|$)")
_THREADS = {"threads", "celery.concurrency.thread:TaskPool", "tasks.broker.pool:TaskPool"}
#: Between two attempts to reach a Redis that is not there yet.
_BACKOFF: Final = Backoff(0.2, 1.0)
#: Answers of a server that is busy, full, cannot write its file, or is not the primary yet.
_PASSING: Final = (ReadOnlyError, OutOfMemoryError, MasterDownError, ClusterDownError, TryAgainError)
_PASSING_WORDS: Final = (
    *("BUSY", "LOADING", "MISCONF", "READONLY", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM"),
    "max number of clients",
)


class StartupError(Exception):
    """The worker cannot start; the text says why and what to do."""


def check_pool(pool: object, command: Sequence[str]) -> None:
    """Refuse every pool but threads; ``pool`` is an alias, a path or a class.

    ``command`` is the command line. Celery takes ``-P prefork`` for its own default, that is for no choice at all, and
    would quietly run threads although the operator asked for processes.
    """
    if _PREFORK.search(" ".join(command)):
        pool = "prefork"
    name = pool if isinstance(pool, str) else f"{getattr(pool, '__module__', '')}:{getattr(pool, '__name__', '')}"
    if name not in _THREADS:
        raise StartupError(
            f"The pool {name} cannot be used: lookups of a list run side by side on threads that share connections, "
            "access tokens and limits; other pools would share none of them. Leave out -P, or say -P threads."
        )


#: Options of `celery worker` that have no effect here or do harm: why, and what to use.
_REFUSED: Final[Mapping[str, str]] = {
    "autoscale": "threads cannot be added at run time. Use -c: a thread that waits costs next to nothing",
    "beat": "this service has no periodic tasks",
    "max_memory_per_child": "threads have no processes that could be replaced. Bound the memory of the container",
    "max_tasks_per_child": "threads have no processes that could be replaced",
    "pool_start_method": "threads are not started as processes",
    "purge": "it would throw away the lookups that wait. Delete a queue by hand, if that is what you want",
    "scheduler": "this service has no periodic tasks",
    "soft_time_limit": "threads cannot be interrupted. Use HTTP_TOTAL_TIMEOUT, and a lookup's deadline",
    "time_limit": "threads cannot be ended. Use HTTP_TOTAL_TIMEOUT, and a lookup's deadline",
}
#: Celery's settings for the same.
_AS_SETTINGS: Final[Mapping[str, str]] = {
    "worker_max_memory_per_child": "max_memory_per_child",
    "worker_max_tasks_per_child": "max_tasks_per_child",
    "task_soft_time_limit": "soft_time_limit",
    "task_time_limit": "time_limit",
}


def check_options(options: Mapping[str, Any], conf: Any, url: str) -> None:
    """Refuse options that would have no effect or do harm, given on the command line or by a variable.

    ``conf``: Celery's settings, which the command line can change too; ``url``: the broker of this service.
    """
    for name, why in _REFUSED.items():
        if options.get(name):
            raise StartupError(f"--{name.replace('_', '-')} cannot be used: {why}.")
    if options.get("optimization") not in (None, "default"):
        raise StartupError("-O cannot be used: threads take messages as they have room for them. Leave it out.")
    for setting, name in _AS_SETTINGS.items():
        if conf.get(setting):
            raise StartupError(f"{setting} cannot be used: {_REFUSED[name]}.")
    if {conf.broker_read_url, conf.broker_write_url} != {url}:
        raise StartupError("The broker cannot be chosen on the command line: set REDIS_URL.")


def check_queues(
    wanted: Sequence[str],
    *,
    excluded: Sequence[str],
    consumed: Iterable[str],
    known: Iterable[str],
    switched_off: Iterable[str],
) -> None:
    """Refuse to start without a provider, or for a queue that is switched off or unknown."""
    consumed, known, off = list(consumed), set(known), sorted(switched_off)
    if not consumed:
        accounts = ", ".join(" and ".join(provider.mandatory_variables) for provider in PROVIDERS.values())
        raise StartupError(
            f"No provider has an account, so there is nothing to do. Set {accounts}, or PROVIDER_ACCOUNTS_FILE; "
            "see .env.example."
        )
    for queue in wanted or ():
        if queue in consumed:
            continue
        if queue in known:
            raise StartupError(
                f"-Q names {queue}, but its provider has no account here (without one: {', '.join(off)}). "
                "Set its account's variables, see .env.example, or leave the queue out."
            )
        raise StartupError(f"-Q names {queue}, which is not a queue of this service. There are: {', '.join(consumed)}.")
    for queue in excluded:
        if queue not in known:
            raise StartupError(
                f"-X names {queue}, which is not a queue of this service. There are: {', '.join(consumed)}."
            )
    if not set(wanted or consumed) - set(excluded):
        raise StartupError("-X leaves no queue to consume. Leave it out, or one of its queues.")


def is_passing(error: ResponseError) -> bool:
    """Return whether a server's refusal ends by itself, or once an operator has repaired the server."""
    # redis-py removes the first word of the errors that it has classes for.
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)


def check_redis(redis: Redis, where: str) -> None:
    """Wait until Redis is there, then refuse one that is too old or may evict; ``where`` is its URL without secrets."""
    info = _info(redis, where)
    _check_version(info, where)
    if info.get("role") == "slave":
        logger.warning(
            "Redis at %s is a replica, which takes no writes: lookups wait until it is promoted. REDIS_URL should name "
            "the primary, or the sentinels that know it",
            where,
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StartupError(
            f"Redis at {where} has maxmemory-policy {policy}: when its memory is full it would throw away lookups and "
            "results. Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)."
        )


def _info(redis: Redis, where: str) -> dict[str, Any]:
    for attempt, pause in enumerate(_BACKOFF.pauses()):
        try:
            info: dict[str, Any] = redis.info()
        except UnusableServerError as error:
            raise StartupError(f"Redis at {where} {error}.") from error
        except AuthenticationError as error:
            raise StartupError(f"Redis at {where} refuses the user or password in REDIS_URL.") from error
        except ResponseError as error:
            if not is_passing(error):
                raise StartupError(f"Redis at {where} does not answer INFO: {str(error)[:100]}") from error
            if attempt == 0:
                logger.warning("Redis at %s is not ready (%.100s); waiting for it", where, error)
        except (RedisError, OSError) as error:
            if attempt == 0:
                logger.warning("Redis at %s is not there yet (%s); waiting for it", where, type(error).__name__)
        else:
            return info
        time.sleep(pause)
    raise AssertionError("pauses have no end")


def _check_version(info: dict[str, object], where: str) -> None:
    # Valkey says which Redis it is compatible with: 7.2.4.
    found = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if numbers < _OLDEST_REDIS:
        raise StartupError(f"Redis at {where} is version {found}; 6.2 or later is needed, or Valkey.")
