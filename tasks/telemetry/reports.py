"""What goes to Sentry: unexpected errors, and lookups given up for reasons that an operator can act on.

A retry is no event. An outage is a few events and not one for each card: what is alike is told once a minute, with how
often it was. Without a DSN nothing here does anything.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from cardtoken.secret import CardToken
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure
from tasks.telemetry import metrics
from tasks.telemetry.redaction import MASK, Redactor

if TYPE_CHECKING:
    from sentry_sdk.tracing import Span
    from sentry_sdk.types import Event, Hint

#: The SDK, once it is wanted: importing it takes a twentieth of a worker's start.
_sdk: ModuleType | None = None
#: Seconds between two events that are alike.
PAUSE: Final = 60.0
#: Seconds that ending may wait for events to be sent.
_FLUSH: Final = 5.0
#: Parts of an event or a transaction that are kept. What a new release of the SDK adds is left out until it is known.
_KEPT: Final = frozenset(
    {
        "event_id", "type", "timestamp", "start_timestamp", "level", "logger", "platform", "sdk", "release",
        "environment", "server_name", "transaction", "transaction_info", "tags", "fingerprint", "exception", "message",
        "logentry", "breadcrumbs", "contexts", "extra", "spans", "modules", "measurements",
    }
)  # fmt: skip
#: Names under which the SDK's integrations put what a message or a command holds.
_DROPPED: Final = frozenset(
    {
        "args",
        "kwargs",
        "vars",
        "request",
        "user",
        "sys.argv",
        "redis.commands",
        "redis.key",
        "db.redis.key",
        "http.query",
    }
)
_WITHHELD: Final = "(withheld: an exception's text may quote what it was given)"


@dataclass(slots=True)
class _Alike:
    """Events of one kind: when the last one went out, and how many have gathered since."""

    at: float
    gathered: int = 0


class _Once:
    """At most one event of a kind in ``PAUSE`` seconds, which says how many there were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, ...], _Alike] = {}

    def count(self, kind: tuple[str, ...]) -> int:
        """How many to tell of now; 0: nothing yet."""
        now = monotonic()
        with self._lock:
            alike = self._kinds.get(kind)
            if alike is not None and now - alike.at < PAUSE:
                alike.gathered += 1
                return 0
            gathered = alike.gathered if alike else 0
            self._kinds[kind] = _Alike(now)
            return gathered + 1

    def left(self) -> Mapping[tuple[str, ...], int]:
        """What has gathered and was not told."""
        with self._lock:
            left = {kind: alike.gathered for kind, alike in self._kinds.items() if alike.gathered}
            for kind in left:
                self._kinds[kind] = _Alike(monotonic())
        return left


_once = _Once()


class Scrubber:
    """What every event and transaction goes through before it is sent."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def event(self, event: "Event", _: "Hint") -> "Event | None":
        """The event without anything that a message, a provider or a secret said."""
        found: Any = {name: value for name, value in event.items() if name in _KEPT}
        for each in (found.get("exception") or {}).get("values") or ():
            if each.get("value"):
                each["value"] = _WITHHELD
        for crumb in (found.get("breadcrumbs") or {}).get("values") or ():
            crumb.pop("data", None)
        cleaned: Event = self._redactor.whole(_without(found))
        return cleaned

    def breadcrumb(self, crumb: dict[str, Any], _: dict[str, Any]) -> dict[str, Any] | None:
        """What is left of one: its words, which are a log line's."""
        kept: dict[str, Any] = self._redactor.whole(
            {name: crumb[name] for name in ("type", "category", "level", "message", "timestamp") if name in crumb}
        )
        return kept


def _without(value: Any) -> Any:
    """Return the value without what stands under one of the names in ``_DROPPED``."""
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if name not in _DROPPED}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return value


def sampler(rate: float) -> Callable[[dict[str, Any]], float]:
    """Which share of the tasks of this service is traced; other work is not."""

    def sampled(context: dict[str, Any]) -> float:
        job = context.get("celery_job") or {}
        # What is handed this context after us, the SDK's own debug log included, must not see a message.
        for name in ("args", "kwargs"):
            job.pop(name, None)
        return rate if str(job.get("task", "")).startswith("lookup.") else 0.0

    return sampled


def start(dsn: str, *, environment: str, release: str, traces: float, redactor: Redactor) -> None:
    """Tell Sentry from now on, and no other one any more. ``traces``: the share of tasks that it gets a trace of."""
    global _sdk
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.celery import CeleryIntegration
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration
    from sentry_sdk.integrations.logging import LoggingIntegration
    from sentry_sdk.integrations.redis import RedisIntegration
    from sentry_sdk.integrations.threading import ThreadingIntegration

    former, _sdk = (_sdk.get_client() if _sdk is not None else None), sentry_sdk
    scrub = Scrubber(redactor)
    sentry_sdk.init(
        dsn,
        environment=environment,
        release=release,
        # Named one by one: the default ones would trace HTTP with its query, and take up what else is installed.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            # A retry's headers are a message's; Sentry has no business in them.
            CeleryIntegration(propagate_traces=False),
            RedisIntegration(),
            LoggingIntegration(event_level=None),
            ThreadingIntegration(propagate_scope=False),
            AtexitIntegration(callback=lambda *_: None),
            DedupeIntegration(),
            ExcepthookIntegration(),
        ],
        include_local_variables=False,
        send_default_pii=False,
        max_request_body_size="never",
        max_breadcrumbs=20,
        trace_propagation_targets=[],
        traces_sampler=sampler(traces) if traces else None,
        before_send=scrub.event,
        before_send_transaction=scrub.event,
        before_breadcrumb=scrub.breadcrumb,
        shutdown_timeout=_FLUSH,
    )
    if former is not None:
        former.close(timeout=_FLUSH)


def stop() -> None:
    """Tell what has gathered, and wait some seconds until everything is sent."""
    flush_gathered()
    if _sdk is not None:
        with contextlib.suppress(Exception):  # of any kind: the worker ends all the same
            _sdk.flush(timeout=_FLUSH)


def flush_gathered() -> None:
    """Send what was kept back because it was alike."""
    for kind, count in _once.left().items():
        if kind[0] == "given up":
            _tell_given_up(*kind[1:], count=count)


def unexpected(error: BaseException) -> None:
    """Report an unexpected exception, with where it came from and without what it says."""
    metrics.UNEXPECTED.inc()
    if _sdk is None:
        return
    origin = error.__traceback__
    while origin is not None and origin.tb_next is not None:
        origin = origin.tb_next
    where = f"{origin.tb_frame.f_code.co_filename}:{origin.tb_lineno}" if origin else ""
    count = _once.count(("unexpected", type(error).__name__, where))
    if count:
        with _sdk.new_scope() as scope:
            scope.set_tag("times", count)
            scope.capture_exception(error)


def given_up(provider: str, account: str, failure: Failure, code: str) -> None:
    """Tell that a lookup failed for good. ``code`` is the provider's, of the known ones."""
    if _sdk is None or not failure.category.actionable:
        return
    kind = (provider, account, str(failure.category), code)
    count = _once.count(("given up", *kind))
    if count:
        _tell_given_up(*kind, count=count)


def _tell_given_up(provider: str, account: str, category: str, code: str, *, count: int) -> None:
    if _sdk is None:
        return
    with _sdk.new_scope() as scope:
        scope.fingerprint = ["lookups given up", provider, category, code]
        for name, value in {"provider": provider, "account": account, "category": category, "code": code}.items():
            scope.set_tag(name, value or "none")
        scope.set_extra("lookups", count)
        what = f"{category} {code}".strip()
        scope.capture_message(f"{provider}: lookups given up: {what}", level="error")


def exchange_span(request: HttpRequest, reference: CardToken) -> "Span | None":
    """A span for a call, where the task is traced. Its URL has neither query nor user, nor the reference."""
    if _sdk is None:
        return None
    parent: Span | None = _sdk.get_current_span()
    if parent is None or not parent.sampled:
        return None
    parts = urlsplit(request.url)
    value = reference.get_secret_value()
    path = parts.path.replace(quote(value, safe=""), MASK).replace(quote(value), MASK).replace(value, MASK)
    url = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{path}"
    # Not as a context manager: threads share the task's scope, and each would put its span into it.
    span = parent.start_child(op="http.client", name=f"{request.method} {url}")
    span.set_data("http.request.method", request.method)
    span.set_data("url", url)
    return span


def end_span(span: "Span", response: HttpResponse | Failure) -> None:
    """The call is over."""
    if isinstance(response, HttpResponse):
        span.set_http_status(response.status)
    else:
        span.set_status("deadline_exceeded" if response.category == "timeout" else "unavailable")
    span.finish()
