"""Everything that a worker counts and measures, for Prometheus. Said here and counted where it happens.

No label ever holds what a producer or a provider wrote: each has a set of values that is known beforehand.
"""

from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

#: Not the library's own, which Flower publishes as well.
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

#: From a provider on the same continent to HTTP_TOTAL_TIMEOUT.
_EXCHANGE: Final = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 30)
#: From a checkout's lookup to the default BULK_DEADLINE.
_WHOLE: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_WAIT: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

LOOKUPS: Final = Counter(
    "cardtoken_lookups",
    "Lookups that ended. `code`: the provider's, where its table has it, else the HTTP status or `other`.",
    ["provider", "lane", "status", "category", "code"],
    registry=REGISTRY,
)
UNANSWERED: Final = Counter(
    "cardtoken_unanswered_lookups",
    "Lookups that failed for another reason than their own: every category but rejected and invalid_request.",
    ["provider", "lane"],
    registry=REGISTRY,
)
RETRIES: Final = Counter(
    "cardtoken_retries",
    "Lookups that will be tried again, and what for.",
    ["provider", "lane", "category", "code"],
    registry=REGISTRY,
)
ATTEMPTS: Final = Counter(
    "cardtoken_attempts",
    "Calls that were made for lookups, by what the last of them came to: found, not_found or a category.",
    ["provider", "lane", "outcome"],
    registry=REGISTRY,
)
HELD: Final = Counter(
    "cardtoken_held",
    "Times that a lookup was put back without a call, by why: circuit or rate_limit.",
    ["provider", "lane", "reason"],
    registry=REGISTRY,
)
EXCHANGE_SECONDS: Final = Histogram(
    "cardtoken_exchange_seconds",
    "One exchange with a provider, from the request to the whole answer.",
    ["provider"],
    buckets=_EXCHANGE,
    registry=REGISTRY,
)
LOOKUP_SECONDS: Final = Histogram(
    "cardtoken_lookup_seconds",
    "From a lookup's requested_at to its result, waits and retries included.",
    ["provider", "lane", "status"],
    buckets=_WHOLE,
    registry=REGISTRY,
)
CALLS_IN_FLIGHT: Final = Gauge(
    "cardtoken_calls_in_flight", "Calls that wait for the provider's answer now.", ["provider"], registry=REGISTRY
)
PERMIT_WAIT_SECONDS: Final = Histogram(
    "cardtoken_permit_wait_seconds",
    "What a call waited for its turn under the rate limit.",
    ["provider", "lane"],
    buckets=_WAIT,
    registry=REGISTRY,
)
SUPPRESSED: Final = Counter(
    "cardtoken_publications_suppressed",
    "Results that were not published because they had been: a message was delivered again, or run twice.",
    ["provider"],
    registry=REGISTRY,
)
TAKEOVERS: Final = Counter(
    "cardtoken_takeovers",
    "Messages of workers that died or froze, which this worker put back to their queues.",
    registry=REGISTRY,
)
QUARANTINED: Final = Counter(
    "cardtoken_quarantined", "Queue entries that are no message and went to quarantine.", ["queue"], registry=REGISTRY
)
CONTROL_IGNORED: Final = Counter(
    "cardtoken_control_ignored", "Messages of remote control that are no command, or failed.", registry=REGISTRY
)
CLOCK_OFFSET_SECONDS: Final = Gauge(
    "cardtoken_clock_offset_seconds", "Seconds by which this host's clock is ahead of Redis'.", registry=REGISTRY
)
#: Named as those of Prometheus and Alertmanager are.
CONFIG_RELOAD_SUCCESSFUL: Final = Gauge(
    "cardtoken_config_last_reload_successful",
    "Whether the worker uses what its files of keys and accounts say now; 0: one is broken, and its old value is used.",
    registry=REGISTRY,
)
CONFIG_RELOAD_SUCCESS_SECONDS: Final = Gauge(
    "cardtoken_config_last_reload_success_timestamp_seconds",
    "When it last took up what they say, as Unix time.",
    registry=REGISTRY,
)
UNEXPECTED: Final = Counter(
    "cardtoken_unexpected_errors", "Exceptions that this service did not foresee.", registry=REGISTRY
)


@cache
def counter(metric: Counter, *labels: str) -> Counter:
    """The counter with these labels; the library's own look-up takes a lock, and makes strings of strings."""
    return metric.labels(*labels)


@cache
def histogram(metric: Histogram, *labels: str) -> Histogram:
    """The same of histograms."""
    return metric.labels(*labels)
