"""What an HTTP status means where nothing better is known, and when to come back (RFC 9110)."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cardtoken.contract import MAX_ERROR_MESSAGE, Category
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpResponse
from tasks.lookups.outcomes import Failure
from tasks.providers.error_bodies import words_of
from tasks.providers.scrub import MAX_CODE, scrubbed

STATUSES: Mapping[int, Category] = {
    400: Category.INVALID_REQUEST,
    401: Category.AUTHENTICATION,
    403: Category.AUTHENTICATION,
    # Of something before the provider that does not know the URL. Whether it is about a token only an adapter knows.
    404: Category.PROTOCOL,
    # The producer chooses neither method nor headers: only this service or its configuration can be wrong.
    405: Category.PROTOCOL,
    406: Category.PROTOCOL,
    408: Category.TIMEOUT,
    409: Category.INVALID_REQUEST,
    415: Category.PROTOCOL,
    422: Category.INVALID_REQUEST,
    425: Category.TIMEOUT,
    429: Category.RATE_LIMITED,
}
#: A gateway answers 404 for all while its backends are exchanged.
_PASSING = frozenset({404})

#: Seconds; more than any lookup has. A wait that no clock can count to would be no number.
_LONGEST_WAIT = 1e9
#: The header's seconds are whole by RFC 9110; servers write fractions as well, with a comma too.
_SECONDS = re.compile(r"\d+(?:[.,]\d*)?|[.,]\d+", re.ASCII)


def category_of(status: int) -> Category:
    """The category of a failure that only its status tells of; one that makes no sense is ``protocol``."""
    if status >= 500:
        return Category.UNAVAILABLE
    return STATUSES.get(status, Category.REJECTED if 400 <= status < 500 else Category.PROTOCOL)


def is_success(status: int) -> bool:
    """Whether a status says that the request was understood and accepted."""
    return 200 <= status < 300


def failure_of(
    response: HttpResponse,
    secrets: Iterable[Secret | CardToken | None],
    words: str | None = None,
    category: Category | None = None,
) -> Failure:
    """The failure that the response's status speaks of, with the code and the message of its body where it has any.

    ``secrets`` is all that the provider was told and must not be repeated; ``words`` stand where the body has none.
    """
    status, said, hidden = response.status, words_of(response.body), tuple(secrets)
    return Failure(
        category=category or category_of(status),
        code=scrubbed(said.code, hidden, MAX_CODE),
        message=scrubbed(said.message, hidden) or words or f"the provider answered with HTTP status {status}",
        http_status=status,
        retry_after=retry_after(response),
        may_pass=category is None and status in _PASSING,
    )


def no_such_url(
    response: HttpResponse, secrets: Iterable[Secret | CardToken | None], provider: str, variable: str
) -> Failure:
    """The failure of a 404 that says nothing of the token: something before the provider does not know the URL."""
    hidden = tuple(secrets)
    hint = f"no {provider} API at this URL: look at {variable}"
    said = scrubbed(words_of(response.body).message, hidden, MAX_ERROR_MESSAGE - len(hint) - 20)
    return replace(failure_of(response, hidden), message=f"{hint}; the answer says: {said}" if said else hint)


def protocol_failure(response: HttpResponse, message: str, *, may_pass: bool = False) -> Failure:
    """An answer that cannot be understood, or must not be believed."""
    return Failure(Category.PROTOCOL, message, http_status=response.status, may_pass=may_pass)


def retry_after(response: HttpResponse) -> float | None:
    """Whole seconds that ``Retry-After`` asks for, as a number or a date; a date counts from the answer's own ``Date``.

    A fraction is rounded up. Of a header that was sent more than once, the longest wait counts.
    """
    text = response.headers.get("retry-after", "").strip()
    numbers = [each.strip() for each in text.split(", ")]
    if all(_SECONDS.fullmatch(each) for each in numbers):
        return max(_whole(each) for each in numbers)
    until = _date(text)
    if until is None:
        return None
    # The server's own clock where it told it: a difference between the clocks must not become a wait.
    now = _date(response.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _whole(number: str) -> float:
    return float(math.ceil(min(float(number.replace(",", ".")), _LONGEST_WAIT)))


def _date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
