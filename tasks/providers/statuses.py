"""What an HTTP status means where nothing better is known, and when to come back (RFC 9110)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cardtoken.contract import Category
from tasks.http.messages import HttpResponse
from tasks.outcomes import Failure

STATUSES: Mapping[int, Category] = {
    400: Category.INVALID_REQUEST,
    401: Category.AUTHENTICATION,
    403: Category.AUTHENTICATION,
    405: Category.INVALID_REQUEST,
    406: Category.INVALID_REQUEST,
    408: Category.TIMEOUT,
    409: Category.INVALID_REQUEST,
    415: Category.INVALID_REQUEST,
    422: Category.INVALID_REQUEST,
    425: Category.TIMEOUT,
    429: Category.RATE_LIMITED,
}


#: Seconds; more than any lookup has. A wait that no clock can count to would be no number.
_LONGEST_WAIT = 1e9


def category_of(status: int) -> Category:
    """The category of a failure that only its status tells of; one that makes no sense is ``protocol``."""
    if status >= 500:
        return Category.UNAVAILABLE
    return STATUSES.get(status, Category.REJECTED if 400 <= status < 500 else Category.PROTOCOL)


def failure_of(response: HttpResponse, message: str | None = None, code: str | None = None) -> Failure:
    """The failure that the response's status speaks of."""
    status = response.status
    return Failure(
        category=category_of(status),
        code=code,
        message=message or f"the provider answered with HTTP status {status}",
        http_status=status,
        retry_after=retry_after(response),
    )


def protocol_failure(response: HttpResponse, message: str) -> Failure:
    """An answer that cannot be understood, or must not be believed."""
    return Failure(Category.PROTOCOL, message, http_status=response.status)


def retry_after(response: HttpResponse) -> float | None:
    """Seconds that ``Retry-After`` asks for, as a number or a date; a date counts from the answer's own ``Date``."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_WAIT)
    until = _date(text)
    if until is None:
        return None
    # The server's own clock where it told it: a difference between the clocks must not become a wait.
    now = _date(response.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
