"""What the simulator counts, bounded so that a long benchmark cannot fill its memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable

MAX_REFERENCES = 200_000
MAX_CALLS_KEPT = 50


class Tally:
    """Counts by key; the key that was first counted longest ago is forgotten beyond `limit` keys."""

    def __init__(self, limit: int = MAX_REFERENCES) -> None:
        """Remember up to `limit` keys."""
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._limit = limit

    def count(self, key: tuple[str, str]) -> int:
        """Add one to `key` and answer its new count."""
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if len(self._counts) > self._limit:
            self._counts.popitem(last=False)
        return count

    def clear(self) -> None:
        """Forget every key."""
        self._counts.clear()


class _Calls:
    """The calls with one reference. Plain lists: most references are called once."""

    __slots__ = ("at", "count", "request_ids")

    def __init__(self) -> None:
        self.count = 0
        self.at: list[float] = []
        self.request_ids: list[str] = []

    def add(self, request_id: str | None) -> None:
        self.count += 1
        self.at.append(time.time())
        if request_id is not None:
            self.request_ids.append(request_id)
        if self.count > MAX_CALLS_KEPT:
            del self.at[:-MAX_CALLS_KEPT]
            del self.request_ids[:-MAX_CALLS_KEPT]


class Stats:
    """Counters since the start or the last reset."""

    def __init__(self, providers: Iterable[str]) -> None:
        """Count for the providers of these names."""
        self._providers = tuple(providers)
        self._in_flight = dict.fromkeys(self._providers, 0)
        self.reset()

    def reset(self) -> None:
        """Begin again. Requests in flight stay in flight."""
        self.connections_accepted = 0
        self.token_requests = 0
        self.redirects_followed = 0
        self._requests = dict.fromkeys(self._providers, 0)
        self._refused = dict.fromkeys(self._providers, 0)
        self._max_by_provider = dict(self._in_flight)
        self._total = self._max = sum(self._in_flight.values())
        self._references: OrderedDict[str, _Calls] = OrderedDict()

    def began(self, provider: str) -> None:
        """A lookup's headers have arrived."""
        self._requests[provider] += 1
        self._total += 1
        self._max = max(self._max, self._total)
        in_flight = self._in_flight[provider] = self._in_flight[provider] + 1
        self._max_by_provider[provider] = max(self._max_by_provider[provider], in_flight)

    def asked(self, reference: str, request_id: str | None) -> None:
        """The lookup asks about `reference`."""
        calls = self._references.get(reference)
        if calls is None:
            calls = self._references[reference] = _Calls()
            if len(self._references) > MAX_REFERENCES:
                self._references.popitem(last=False)
        calls.add(request_id)

    def refused(self, provider: str) -> None:
        """The lookup did not pass the provider's checks."""
        self._refused[provider] += 1

    def ended(self, provider: str) -> None:
        """The lookup was answered, or its client went away."""
        self._total -= 1
        self._in_flight[provider] -= 1

    def snapshot(self, only: Collection[str] | None = None) -> dict[str, object]:
        """Everything counted, as JSON; `by_reference` for the references in `only` alone, if given."""
        wanted = self._references if only is None else {r: self._references[r] for r in only if r in self._references}
        return {
            "connections_accepted": self.connections_accepted,
            "requests": dict(self._requests),
            "refused": dict(self._refused),
            "token_requests": self.token_requests,
            "in_flight": self._total,
            "max_in_flight": self._max,
            "in_flight_by_provider": dict(self._in_flight),
            "max_in_flight_by_provider": dict(self._max_by_provider),
            "redirects_followed": self.redirects_followed,
            "by_reference": {
                reference: {"calls": calls.count, "request_ids": calls.request_ids, "at": calls.at}
                for reference, calls in wanted.items()
            },
        }
