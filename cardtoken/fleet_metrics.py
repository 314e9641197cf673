"""What the whole fleet has in common, asked of Redis when Prometheus asks: each worker returns the same."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from time import monotonic
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import RedisError

from cardtoken.circuits import CircuitState
from cardtoken.status import ServiceStatus

#: Seconds for which one look serves, however many ask.
_FRESH: Final = 2.0
_STATES: Final = {"closed": 0, "open": 1, "paused": 1, "trying": 1, "held": 2}


class FleetCollector(Collector):
    """Queues, claims, dead letters, consumers and circuits. ``accounts``: of each provider that has any here."""

    def __init__(
        self, look: Callable[[], ServiceStatus], accounts: Callable[[], Mapping[str, Collection[str]]] = dict
    ) -> None:
        self._look = look
        self._accounts = accounts
        self._lock = threading.Lock()
        self._found: ServiceStatus | None = None
        self._at = float("-inf")

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on what is found."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Where Redis cannot be asked, that is told, and the worker's own metrics are none the worse for it."""
        found = self.found()
        yield GaugeMetricFamily("cardtoken_redis_up", "Whether Redis could be asked.", value=found is not None)
        if found is None:
            return
        yield from _of_queues(found)
        yield from _of_results(found)
        strays = sum(each.waiting for each in found.stray_lists)
        yield _gauge("cardtoken_stray_messages", "Messages in lists that no worker takes from.", strays)
        yield _gauge("cardtoken_claimed", "Messages in workers' hands.", found.claimed)
        yield _gauge("cardtoken_claims_overdue", "Those of workers that renewed no lease in time.", found.overdue)
        yield _gauge("cardtoken_dead_letters", "Entries of lookup:dead-letters.", found.dead_letters)
        yield _gauge("cardtoken_quarantine", "Entries of lookup:quarantine.", found.quarantine)
        yield _gauge("cardtoken_workers", "Workers that told Redis lately that they are there.", len(found.workers))
        yield _gauge("cardtoken_redis_memory_bytes", "What Redis uses.", found.server.memory)
        yield _gauge("cardtoken_redis_memory_limit_bytes", "What it may use; 0: no limit.", found.server.memory_limit)
        yield self._circuits(found.circuits)

    def found(self) -> ServiceStatus | None:
        """Return the state of two seconds ago at most; None where Redis cannot be asked."""
        with self._lock:
            if monotonic() - self._at > _FRESH:
                try:
                    self._found = self._look()
                except (RedisError, OSError):
                    self._found = None
                self._at = monotonic()
            return self._found

    def _circuits(self, not_closed: Collection[CircuitState]) -> Metric:
        family = GaugeMetricFamily(
            "cardtoken_circuit_state",
            "0 closed, 1 open by itself (calls fail, or the provider asked), 2 held by an operator. Account *: all.",
            labels=["provider", "account"],
        )
        states = {(name, account): 0 for name, accounts in self._accounts().items() for account in (*accounts, "*")}
        states |= {(each.provider, each.account): _STATES.get(each.state, 1) for each in not_closed}
        for labels, state in states.items():
            family.add_metric(labels, state)
        return family


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _of_queues(found: ServiceStatus) -> Iterator[Metric]:
    labels = ["queue"]
    waiting = GaugeMetricFamily("cardtoken_queue_messages", "Messages that wait in a queue.", labels=labels)
    lookups = GaugeMetricFamily(
        "cardtoken_queue_lookups",
        "Lookups that a worker could take now: those of waiting messages, and of delayed ones whose time has come.",
        labels=labels,
    )
    delayed = GaugeMetricFamily("cardtoken_queue_delayed", "Messages that wait for their time.", labels=labels)
    oldest = GaugeMetricFamily(
        "cardtoken_queue_oldest_seconds",
        "Age of the oldest waiting message, where its producer stamped requested_at; 0: none waits.",
        labels=labels,
    )
    consumers = GaugeMetricFamily("cardtoken_queue_consumers", "Workers that take from a queue.", labels=labels)
    for queue in found.queues:
        waiting.add_metric([queue.name], queue.waiting)
        if queue.lookups is not None:
            lookups.add_metric([queue.name], queue.lookups)
        delayed.add_metric([queue.name], queue.delayed)
        oldest.add_metric([queue.name], queue.oldest or 0)
        consumers.add_metric([queue.name], queue.workers)
    yield from (waiting, lookups, delayed, oldest, consumers)


def _of_results(found: ServiceStatus) -> Iterator[Metric]:
    kept = GaugeMetricFamily("cardtoken_result_queue_entries", "Results that a queue keeps.", labels=["queue"])
    labels = ["queue", "group"]
    lag = GaugeMetricFamily("cardtoken_consumer_lag", "Results that a group has not been given.", labels=labels)
    pending = GaugeMetricFamily(
        "cardtoken_consumer_pending", "Results that a group was given and did not acknowledge.", labels=labels
    )
    for each in found.result_queues:
        kept.add_metric([each.name], each.results)
        for group in each.groups:
            pending.add_metric([each.name, group.name], group.pending)
            if group.lag is not None:
                lag.add_metric([each.name, group.name], group.lag)
    yield from (kept, lag, pending)
