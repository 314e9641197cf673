"""One HTTP exchange: a request goes out, a whole answer or a failure comes back. Nothing is raised.

No redirect is followed, no cookie kept, no proxy taken from the environment unless asked, no compression asked for or
accepted, TLS always verified.
"""

import http.client
import socket
import ssl
from collections.abc import Iterator
from time import monotonic
from urllib.parse import urlsplit

import urllib3.exceptions
from requests.utils import get_environ_proxies

from cardtoken.contract import Category
from cardtoken.error_description import describe_error
from tasks.http import connections as http_connections
from tasks.http.connections import EarlyAnswerError, Limits, RefusedBodyError, is_local
from tasks.http.deadline import Deadline
from tasks.http.messages import Again, Believed, HttpRequest, HttpResponse
from tasks.http.pools import BoundedAdapter
from tasks.http.reading import NotHttpError
from tasks.lookups.outcomes import Failure

__all__ = ["HttpClient", "Limits"]

#: What went wrong → what it is to a lookup. The first row that any error in the chain of causes fits counts.
_FAILURES: tuple[tuple[tuple[type[BaseException], ...], Category, str], ...] = (
    # Not urllib3's TimeoutError: it holds the refused connection and the unknown name as well.
    ((TimeoutError, urllib3.exceptions.ReadTimeoutError), Category.TIMEOUT, "no whole answer in time from {host}"),
    ((urllib3.exceptions.ProxyError,), Category.UNAVAILABLE, "the proxy before {host} cannot be used"),
    ((socket.gaierror,), Category.UNAVAILABLE, "the name {host} cannot be resolved"),
    ((ssl.SSLCertVerificationError,), Category.UNAVAILABLE, "the certificate of {host} cannot be verified"),
    ((ssl.SSLError,), Category.UNAVAILABLE, "no TLS connection to {host}"),
    ((ConnectionRefusedError,), Category.UNAVAILABLE, "{host} refused the connection"),
    ((ConnectionError,), Category.UNAVAILABLE, "{host} closed the connection without a whole answer"),
    ((http.client.IncompleteRead,), Category.UNAVAILABLE, "{host} ended its answer too early"),
    ((EarlyAnswerError,), Category.PROTOCOL, "{host} answered before it was asked"),
    ((NotHttpError, http.client.HTTPException), Category.PROTOCOL, "what {host} answered is not HTTP"),
    # A URL or a header that cannot be sent: asking again changes nothing.
    ((ValueError,), Category.INTERNAL, "the request to {host} could not be made"),
    ((OSError, urllib3.exceptions.HTTPError), Category.UNAVAILABLE, "no exchange with {host}"),
)
#: What fails.
_ERRORS = (
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    NotHttpError,
    EarlyAnswerError,
    OSError,  # those of requests too
    ValueError,
    MemoryError,
)


class HttpClient:
    """Pooled connections, shared by all threads of the process.

    ``connections`` is how many idle ones are kept for each host; more than that may be open at once.
    """

    def __init__(
        self, limits: Limits, connections: int, *, ca_file: str | None = None, use_env_proxies: bool = False
    ) -> None:
        self.limits = limits
        self._adapter = BoundedAdapter(connections, ca_file)
        self._use_env_proxies = use_env_proxies
        #: How many exchanges have ended. One may be lost, but not many.
        self.ended = 0

    def send(
        self,
        request: HttpRequest,
        until: float | None = None,
        *,
        alone: bool = False,
        believed: Believed | None = None,
        again: Again | None = None,
    ) -> HttpResponse | Failure:
        """Exchange one request within ``limits.total`` seconds, and before ``until`` (``time.monotonic``) if given.

        A request that a used connection brings no answer to goes out again on a new one. ``alone`` takes a connection
        that is used for nothing else. ``believed`` says of each answer whether it is the request's own: where it is
        not, its connection is closed, and the request goes out once more on a new one. What goes out again is what
        ``again`` makes, or the same request.
        """
        at = monotonic() + self.limits.total
        try:
            with Deadline(at if until is None else min(at, until)):
                proxies = get_environ_proxies(request.url) if self._use_env_proxies else None
                return self._adapter.exchange(
                    request, self.limits, proxies, alone=alone, believed=believed, again=again
                )
        except RefusedBodyError as error:
            return Failure(Category.PROTOCOL, str(error), http_status=error.status)
        except _ERRORS as error:
            return _failure(error, request)
        finally:
            self.ended += 1

    @property
    def is_resolving(self) -> bool:
        """Whether an exchange waits for a name to be resolved, which has no bound but the system's."""
        return bool(http_connections.resolving)

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()


def _failure(error: BaseException, request: HttpRequest) -> Failure:
    # The errors' own words quote the URL, and the URL may hold a reference: none of them goes further.
    host = urlsplit(request.url).hostname or "the provider"
    chain = list(_chain(error))
    if any(is_local(link) for link in chain):
        return Failure(Category.UNAVAILABLE, f"this machine cannot make a connection to {host}", local=True)
    for kinds, category, words in _FAILURES:
        if any(isinstance(link, kinds) for link in chain):
            # What is not HTTP is a gateway's, or that of a host that is just being changed.
            return Failure(category, words.format(host=host), may_pass=category is Category.PROTOCOL)
    return Failure(Category.INTERNAL, f"the request to {host} could not be made ({describe_error(error)})")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it wraps: libraries keep the cause in the arguments, in ``reason`` or as the cause."""
    queue: list[object] = [error]
    seen: set[int] = set()
    while queue:
        link = queue.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            queue += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]
