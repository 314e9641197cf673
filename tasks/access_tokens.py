"""Access tokens of the accounts whose provider wants them: kept in this process and nowhere else."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Any

from cardtoken.contract import Category
from cardtoken.secret import Secret
from tasks.outcomes import Failure
from tasks.providers.provider import AccessToken, AccessTokens, Account
from tasks.wire import HttpRequest, HttpResponse

Send = Callable[[HttpRequest, float | None], HttpResponse | Failure]

#: A token is renewed when this part of its life is left, and at least so many seconds before its end.
_MARGIN = 0.1
_MIN_MARGIN = 5.0


@dataclass(frozen=True, slots=True)
class _Kept:
    token: Secret
    renew_at: float
    ends_at: float


class AccessTokenCache:
    """The access token of one account.

    However many threads want one, one of them asks the provider and the others share what it gets, failure included:
    a token endpoint that hangs costs one wait and not one for each thread.
    """

    def __init__(self, scheme: AccessTokens[Any], account: Account, send: Send) -> None:
        self._scheme = scheme
        self._account = account
        self._send = send
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._flight: Future[Secret | Failure] | None = None

    def get(self, until: float) -> Secret | Failure:
        """A token that still holds, or why there is none; waits until ``until`` (``time.monotonic``) at most."""
        now = monotonic()
        with self._lock:
            kept = self._kept
            if kept is not None and now < kept.renew_at:
                return kept.token
            flight, leads = self._flight, False
            if flight is None:
                flight, leads = Future(), True
                self._flight = flight
            elif kept is not None and now < kept.ends_at:
                # Someone renews it already, and until it ends it serves.
                return kept.token
        if leads:
            return self._renew(flight, kept)
        try:
            return flight.result(max(0.0, until - monotonic()))
        except TimeoutError:
            return Failure(Category.TIMEOUT, "no access token in time")

    def refused(self, response: HttpResponse) -> bool:
        """Whether the provider's answer says that the access token it came with is no longer good."""
        return self._scheme.refused(response)

    def discard(self, token: Secret) -> None:
        """Forget a token that the provider refused, unless another has taken its place already."""
        with self._lock:
            if self._kept is not None and self._kept.token == token:
                self._kept = None

    def _renew(self, flight: Future[Secret | Failure], kept: _Kept | None) -> Secret | Failure:
        answer: Secret | Failure = Failure(Category.INTERNAL, "the request for an access token could not be made")
        try:
            # The shared request has the whole of HTTP_TOTAL_TIMEOUT, however little its first caller has left.
            response = self._send(self._scheme.build(self._account), None)
            got = response if isinstance(response, Failure) else self._scheme.parse(response, self._account)
            with self._lock:
                if isinstance(got, AccessToken):
                    now = monotonic()
                    margin = min(max(got.expires_in * _MARGIN, _MIN_MARGIN), got.expires_in / 2)
                    self._kept = _Kept(got.value, now + got.expires_in - margin, now + got.expires_in)
                    answer = got.value
                elif kept is not None and self._kept is kept and monotonic() < kept.ends_at:
                    answer = kept.token
                else:
                    answer = got
        finally:
            with self._lock:
                self._flight = None
            flight.set_result(answer)
        return answer
