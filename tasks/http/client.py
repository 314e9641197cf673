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
from tasks.http.connections import BoundedAdapter, Deadline, Limits
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.outcomes import Failure

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
    (
        (http.client.HTTPException, urllib3.exceptions.InvalidHeader),
        Category.PROTOCOL,
        "what {host} answered is not HTTP",
    ),
    # A URL or a header that cannot be sent: asking again changes nothing.
    ((ValueError,), Category.INTERNAL, "the request to {host} could not be made"),
    ((OSError, urllib3.exceptions.HTTPError), Category.UNAVAILABLE, "no exchange with {host}"),
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

    def send(self, request: HttpRequest, until: float | None = None) -> HttpResponse | Failure:
        """Exchange one request within ``limits.total`` seconds, and before ``until`` (``time.monotonic``) if given."""
        at = monotonic() + self.limits.total
        try:
            with Deadline(at if until is None else min(at, until)):
                return self._exchange(request)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            # Those of requests are OSErrors.
            return _failure(error, request)

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()

    def _exchange(self, request: HttpRequest) -> HttpResponse | Failure:
        headers = {"User-Agent": "cardtoken", **request.headers, "Accept-Encoding": "identity"}
        proxies = get_environ_proxies(request.url) if self._use_env_proxies else None
        status, found, body = self._adapter.exchange(request, self.limits, headers, proxies)
        limit = self.limits.max_body
        if len(body) > limit:
            return Failure(Category.PROTOCOL, f"the answer is larger than {limit} bytes", http_status=status)
        if found.get("content-encoding", "identity").lower() != "identity":
            words = "the answer is compressed, which was not asked for"
            return Failure(Category.PROTOCOL, words, http_status=status)
        return HttpResponse(status, found, body)


def _failure(error: BaseException, request: HttpRequest) -> Failure:
    # The errors' own words quote the URL, and the URL may hold a reference: none of them goes further.
    host = urlsplit(request.url).hostname or "the provider"
    chain = list(_chain(error))
    for kinds, category, words in _FAILURES:
        if any(isinstance(link, kinds) for link in chain):
            return Failure(category, words.format(host=host))
    return Failure(Category.INTERNAL, f"the request to {host} could not be made ({type(error).__name__})")


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
