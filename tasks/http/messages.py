"""HTTP as plain values, so that adapters can speak of it without being able to do it."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tasks.lookups.outcomes import Failure


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, ready to be sent byte for byte. Its repr shows no header, no query and no body."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One answer, read to its end. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


#: The ids of the latest answers on a connection, each with a hash of what had been asked.
Answered = OrderedDict[str, int]
#: Returns whether an answer can be that to its request, and remembers it; see ``HttpClient.send``.
Believed = Callable[[HttpResponse, Answered], bool]
#: Makes a request once more, for a provider that wants something new in each.
Again = Callable[[], HttpRequest]
#: One exchange, until a moment of ``time.monotonic``.
Exchange = Callable[[HttpRequest, float | None], HttpResponse | Failure]


class Send(Protocol):
    """Makes one exchange; see ``HttpClient.send``."""

    def __call__(
        self,
        request: HttpRequest,
        until: float | None = None,
        /,
        *,
        alone: bool = False,
        believed: Believed | None = None,
        again: Again | None = None,
    ) -> HttpResponse | Failure: ...
