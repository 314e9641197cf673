"""Asks sentinels for the primary: side by side, so that those that are down cost next to nothing."""

import queue
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Any, Final

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

from cardtoken.bounded import BoundedConnection, BoundedPool
from cardtoken.login import Login

#: Seconds after which the next sentinel is asked too, while an answer is awaited; an error is waited for no longer.
STAGGER: Final = 0.1
#: Seconds that one sentinel is given for an answer, and all of them together.
ASK_TIMEOUT: Final = 1.0
ALL_TIMEOUT: Final = 3.0

Address = tuple[str, int]


class Sentinels(Sentinel):
    """redis-py's, but for how it finds the primary. No connection to a sentinel is kept: it may be dead by then."""

    def __init__(self, hosts: Iterable[Address], login: Login) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        options = {**sentinel_options(login), "connection_class": BoundedConnection}
        self.sentinels = [redis.Redis.from_pool(BoundedPool(host=host, port=port, **options)) for host, port in hosts]

    def discover_master(self, service_name: str) -> Address:
        """Return the address of the primary that the first sentinel with a good one names.

        Raises ``redis.ConnectionError`` after ALL_TIMEOUT seconds at most.
        """
        answers: queue.SimpleQueue[tuple[Any, Address | Exception]] = queue.SimpleQueue()

        def ask(sentinel: Any) -> None:
            try:
                answer: Address | Exception = self._ask(sentinel, service_name)
            except Exception as error:  # noqa: BLE001 - it is told to the caller, who waits for it
                answer = error
            finally:
                sentinel.connection_pool.disconnect()
            answers.put((sentinel, answer))

        end = monotonic() + ALL_TIMEOUT
        waiting, asked, errors = list(self.sentinels), 0, []
        while waiting or asked:
            if waiting:
                asked += 1
                threading.Thread(target=ask, args=(waiting.pop(0),), name="sentinel", daemon=True).start()
            try:
                sentinel, answer = answers.get(timeout=STAGGER if waiting else max(0, end - monotonic()))
            except queue.Empty:
                if waiting:
                    continue
                break
            asked -= 1
            if not isinstance(answer, Exception):
                self._prefer(sentinel)
                return answer
            errors.append(error_of(sentinel, answer))
        raise not_found(service_name, errors, len(self.sentinels))

    def _ask(self, sentinel: Any, service_name: str) -> Address:
        return primary_of(self, sentinel.sentinel_masters(), service_name)

    def _prefer(self, sentinel: Any) -> None:
        """Ask this one first from now on. A new list, as other threads go through the old one."""
        self.sentinels = [sentinel, *(each for each in self.sentinels if each is not sentinel)]


def sentinel_options(login: Login) -> dict[str, Any]:
    """How a connection to a sentinel is made."""
    return {
        "socket_timeout": ASK_TIMEOUT,
        "socket_connect_timeout": ASK_TIMEOUT,
        "credential_provider": login,
        "protocol": 2,
    }


def primary_of(sentinels: Any, states: Any, service_name: str) -> Address:
    """The primary's address in a sentinel's answer; raises MasterNotFoundError where it knows none that is up."""
    state = states.get(service_name)
    if not state:
        raise MasterNotFoundError("knows no such name")
    if not sentinels.check_master_state(state, service_name):
        raise MasterNotFoundError("takes it for down")
    return state["ip"], state["port"]


def error_of(sentinel: Any, error: BaseException) -> str:
    """What a sentinel answered, in words, with its address."""
    options = sentinel.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']} {str(error) or type(error).__name__}"


def not_found(service_name: str, errors: list[str], asked: int) -> MasterNotFoundError:
    """What is raised where no sentinel names a primary."""
    silent = asked - len(errors)
    told = [*errors, f"{silent} did not answer"] if silent else errors
    return MasterNotFoundError(f"no sentinel names a primary {service_name!r}: {'; '.join(told)}")
