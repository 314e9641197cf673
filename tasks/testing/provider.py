"""A provider in memory: its adapter, and the ``send`` that it answers."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from cardtoken.contract import TokenRecord
from cardtoken.secret import Secret
from tasks.http.messages import Again, Believed, HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure, Found, Outcome
from tasks.providers.provider import AccessToken, AccessTokens, Account, Provider, Query

#: How an answer to a call is scripted: an outcome, or a function that returns one while the call is running.
Scripted = Outcome | Callable[[], Outcome]

_REFUSED = 401


class FakeProvider:
    """A provider that has the name of a real one, and nothing else of it.

    A call about a reference is answered as ``script`` says, and without that with ``Found``.

    A ``Failure`` without ``http_status`` is one of ``send``, any other outcome is read from a response. With
    ``access_tokens``, calls need one, and a response with status 401 refuses it.
    """

    def __init__(self, name: str = "opay", *, access_tokens: bool = False) -> None:
        self.adapter: Provider[Any] = Provider(
            name=name,
            account=Account,
            build=self._build,
            parse=self._parse,
            codes={},
            access_tokens=AccessTokens(self._build_token, self._parse_token, _is_refused) if access_tokens else None,
        )
        #: References in the order in which calls about them began.
        self.calls: list[str] = []
        #: The moments until which the exchanges could take, in their order, and those for access tokens.
        self.until: list[float | None] = []
        self.token_requests = 0
        self.on_token_request: Callable[[], None] = lambda: None
        self.most_at_once = 0
        self._script: dict[str, deque[Scripted]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._running = 0
        self._lock = threading.Lock()

    def script(self, reference: str, *answers: Scripted) -> None:
        """Set the answers to the next calls about a reference; the last one is given for good."""
        self._script[reference] = deque(answers)

    @property
    def counts(self) -> Counter[str]:
        """Calls by reference."""
        return Counter(self.calls)

    def send(
        self,
        request: HttpRequest,
        until: float | None = None,
        /,
        *,
        alone: bool = False,
        believed: Believed | None = None,  # noqa: ARG002 - every answer is the call's own
        again: Again | None = None,  # noqa: ARG002 - no connection is found dead
    ) -> HttpResponse | Failure:
        """Answer one request. See ``tasks.http.messages.Send``."""
        self.until.append(until)
        if alone:
            self.token_requests += 1
            self.on_token_request()
            return HttpResponse(200, {}, f"token-{self.token_requests}".encode())
        reference = (request.body or b"").decode()
        with self._lock:
            self.calls.append(reference)
            number = str(len(self.calls))
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            answer = self._next(reference)
            outcome = answer() if callable(answer) else answer
        finally:
            with self._lock:
                self._running -= 1
        status = outcome.http_status if isinstance(outcome, Failure) else 200
        if isinstance(outcome, Failure) and status is None:
            return outcome
        self._outcomes[number] = outcome
        return HttpResponse(status or 200, {"number": number}, b"")

    def _next(self, reference: str) -> Scripted:
        with self._lock:
            answers = self._script.get(reference)
            if not answers:
                return Found(TokenRecord(value=reference))
            return answers.popleft() if len(answers) > 1 else answers[0]

    def _build(self, query: Query[Account]) -> HttpRequest:
        return HttpRequest("POST", "https://fake.example/", {}, query.reference.get_secret_value().encode())

    def _parse(self, response: HttpResponse, query: Query[Account]) -> Outcome:  # noqa: ARG002 - an adapter's signature
        return self._outcomes[response.headers["number"]]

    def _build_token(self, account: Account) -> HttpRequest:  # noqa: ARG002 - an adapter's signature
        return HttpRequest("POST", "https://fake.example/token", {})

    def _parse_token(self, response: HttpResponse, account: Account) -> AccessToken:  # noqa: ARG002
        return AccessToken(Secret(response.body.decode()), 3600.0)


def _is_refused(response: HttpResponse) -> bool:
    return response.status == _REFUSED
