"""Access tokens of the accounts whose provider requires them. They are kept in the memory of this process only."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from cardtoken.contract import Category
from cardtoken.error_description import describe_error
from cardtoken.secret import Secret
from tasks.http.messages import Exchange, HttpResponse
from tasks.lookups.outcomes import Failure
from tasks.providers.provider import AccessToken, AccessTokens, Account
from tasks.telemetry import reports

logger = logging.getLogger(__name__)

#: A token is renewed when this share of its lifetime is left, and at least this many seconds before its end.
_MARGIN = 0.1
_MIN_MARGIN_SECONDS = 5.0
#: Seconds between a failed renewal and the next, for as long as the old token is valid.
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Kept:
    token: Secret
    renew_at: float
    ends_at: float


class AccessTokenCache:
    """The access token of one account.

    The threads that need one at the same time share one request and its outcome, a failure included: a token endpoint
    that hangs costs one wait and not one for each thread.
    """

    def __init__(
        self,
        scheme: AccessTokens[Any],
        account: Account,
        send: Exchange,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._scheme = scheme
        self._account = account
        self._send = send
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._flight: Future[Secret | Failure] | None = None

    def get(self, until: float) -> Secret | Failure:
        """Return a valid token, or why there is none. Block until ``until`` of the monotonic clock at most."""
        now = self._monotonic()
        with self._lock:
            kept = self._kept
            if kept is not None and now < kept.renew_at:
                return kept.token
            holds = kept is not None and now < kept.ends_at
            flight, runs = self._flight, True
            if flight is None:
                flight = Future()
                runs = self._begin(flight)
                if runs or not holds:
                    self._flight = flight
            if kept is not None and holds:
                # It is valid until its end, and is used meanwhile.
                return kept.token
        if not runs:
            self._renew(flight, until)
        try:
            return flight.result(max(0.0, until - self._monotonic()))
        except TimeoutError:
            return Failure(Category.TIMEOUT, "no access token in time")

    def refused(self, response: HttpResponse) -> bool:
        """Return whether the provider's answer says that the access token of the request is no longer valid."""
        return self._scheme.refused(response)

    def discard(self, token: Secret) -> None:
        """Forget a token that the provider refused, unless it has been replaced already."""
        with self._lock:
            if self._kept is not None and self._kept.token == token:
                self._kept = None

    def _begin(self, flight: Future[Secret | Failure]) -> bool:
        """Renew in a thread of its own. Return False if no thread can be started.

        The first caller that needs a token may have less time than a renewal takes.
        """
        try:
            threading.Thread(target=self._renew, args=(flight, None), name="access-token", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _renew(self, flight: Future[Secret | Failure], until: float | None) -> None:
        answer: Secret | Failure = Failure(Category.INTERNAL, "the request for an access token could not be made")
        try:
            # In a thread of its own the shared request has all of HTTP_TOTAL_TIMEOUT, even if its callers have less.
            response = self._send(self._scheme.build(self._account), until)
            got = response if isinstance(response, Failure) else self._scheme.parse(response, self._account)
            answer = got.value if isinstance(got, AccessToken) else got
            if isinstance(got, AccessToken):
                now = self._monotonic()
                margin = min(max(got.expires_in * _MARGIN, _MIN_MARGIN_SECONDS), got.expires_in / 2)
                with self._lock:
                    self._kept = _Kept(got.value, now + got.expires_in - margin, now + got.expires_in)
            else:
                with self._lock:
                    if (kept := self._kept) is not None:
                        self._kept = replace(kept, renew_at=min(self._monotonic() + _PAUSE_SECONDS, kept.ends_at))
        except Exception as error:  # noqa: BLE001 - the callers that wait get a failure instead
            reports.unexpected(error)
            # Not the error's text, which may quote what it was given.
            logger.error("renewing an access token ended in %s", describe_error(error))  # noqa: TRY400 - see above
        finally:
            with self._lock:
                self._flight = None
            flight.set_result(answer)
