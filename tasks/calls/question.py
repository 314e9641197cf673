"""One question to a provider: the request, and whether a response can be the answer to it."""

import secrets
from typing import Any

from cardtoken.secret import CardToken, Secret
from tasks.http.messages import Answered, HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure, Outcome
from tasks.providers.provider import Account, Provider, Query

#: The number of answers that are remembered of a connection.
_REMEMBERED = 32


class Question:
    """A question about one reference. It may go out on more than one connection before it is answered."""

    def __init__(self, provider: Provider[Any], reference: CardToken, account: Account, token: Secret | None) -> None:
        self._provider = provider
        self._reference = reference
        self._account = account
        self._token = token
        self._query = self._new_query()
        self._asked = False
        self._read: tuple[HttpResponse, Outcome] | None = None

    def request(self) -> HttpRequest:
        """Return the request, each time with an id of its own."""
        if self._asked:
            self._query = self._new_query()
        self._asked = True
        return self._provider.build(self._query)

    def outcome(self, response: HttpResponse) -> Outcome:
        """Return what the provider's answer means."""
        if self._read is None or self._read[0] is not response:
            self._read = response, self._provider.parse(response, self._query)
        return self._read[1]

    def believed(self, response: HttpResponse, answered: Answered) -> bool:
        """Return whether an answer can be the one to this question and not another's on the same connection.

        It is another's where it names another token, or where the provider's id of it is that of an answer about
        another reference. ``answered`` are the ids of the connection, each with a hash of the reference.
        """
        outcome = self.outcome(response)
        if isinstance(outcome, Failure) and outcome.misdirected:
            return False
        id_ = self._provider.answer_id(response) if self._provider.answer_id else None
        if id_ is None:
            return True
        asked = hash(self._reference.get_secret_value())
        if answered.get(id_, asked) != asked:
            return False
        answered[id_] = asked
        if len(answered) > _REMEMBERED:
            answered.popitem(last=False)
        return True

    def _new_query(self) -> Query[Any]:
        return Query(self._reference, self._account, secrets.token_hex(16), self._token)
