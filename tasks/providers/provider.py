"""What an adapter is: an account model, ``build``, ``parse`` and a code table. No I/O anywhere."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cardtoken.contract import LookupRequest
from cardtoken.providers import PROVIDERS
from cardtoken.secret import CardToken, Secret
from tasks.http.messages import HttpRequest, HttpResponse
from tasks.lookups.outcomes import Failure, Outcome, Verdict


def _checked_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL such as https://api.example.com")
    # An empty one counts too: what the adapter adds to it would become its query or its fragment.
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError("must have no user, query or fragment")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a bad port") from None
    return value.rstrip("/")


BaseUrl = Annotated[str, Field(pattern=r"^[!-~]+\z", max_length=2048), AfterValidator(_checked_url)]
#: Text that may stand in an HTTP header as it is.
HeaderText = Annotated[str, Field(pattern=r"^[!-~]([ -~]*[!-~])?\z", max_length=256)]


def _encodable(value: Secret) -> Secret:
    try:
        value.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    return value


#: A credential, which is signed with or sent as UTF-8.
Key = Annotated[Secret, AfterValidator(_encodable)]


_RATE: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)/(s|m)", re.ASCII)


def _rate(value: object) -> float | None:
    """Return the calls a second of a rate such as 100/s; None where there is none."""
    if value is None:
        return None
    found = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found or not float(found[1]):
        raise ValueError("must be a number and a unit, such as 100/s or 3000/m")
    return float(found[1]) / (60 if found[2] == "m" else 1)


Rate = Annotated[float | None, BeforeValidator(_rate)]


class Account(BaseModel):
    """Whose credentials a lookup uses. A field ``x`` of provider ``p`` is the variable ``P_X``; see its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)

    #: Calls a second that all workers together make for it at most; None: any number.
    rate_limit: Rate = Field(default=None, description="calls, as 100/s or 3000/m; empty for no limit")


A = TypeVar("A", bound=Account)


@dataclass(frozen=True, slots=True)
class Query(Generic[A]):
    """One attempt at one lookup, as an adapter sees it."""

    reference: CardToken
    account: A
    #: Unique for each attempt: 32 hexadecimal characters.
    request_id: str
    #: Where the provider wants one.
    access_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A provider's short-lived credential and how many seconds it was said to hold."""

    value: Secret
    expires_in: float


@dataclass(frozen=True, slots=True)
class AccessTokens(Generic[A]):
    """How a provider that wants access tokens gives them out."""

    build: Callable[[A], HttpRequest]
    parse: Callable[[HttpResponse, A], AccessToken | Failure]
    #: Whether this answer to a lookup says that the access token is no longer good.
    refused: Callable[[HttpResponse], bool]


@dataclass(frozen=True, slots=True)
class Provider(Generic[A]):
    """One provider: everything the engine needs to know of it."""

    #: As ``cardtoken.providers`` has it.
    name: str
    account: type[A]
    build: Callable[[Query[A]], HttpRequest]
    parse: Callable[[HttpResponse, Query[A]], Outcome]
    codes: Mapping[str, Verdict] = field(repr=False)
    access_tokens: AccessTokens[A] | None = None
    #: For a provider that does not echo the reference: the id that it gives to each answer, None where there is none.
    answer_id: Callable[[HttpResponse], str | None] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a name that producers do not know."""
        if self.name not in PROVIDERS:
            raise ValueError(f"provider {self.name!r} has no line in cardtoken/providers.py")

    @property
    def request(self) -> type[LookupRequest]:
        """The request model."""
        return PROVIDERS[self.name].request

    @property
    def mandatory_variables(self) -> list[str]:
        """The environment variables without which it has no account."""
        fields = self.account.model_fields.items()
        return [f"{self.name}_{name}".upper() for name, info in fields if info.is_required()]
