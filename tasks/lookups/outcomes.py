"""The outcomes of one call to a provider."""

from dataclasses import dataclass
from enum import StrEnum

from cardtoken.contract import Category, TokenRecord


class Answer(StrEnum):
    """What a provider's code can mean, besides a category of failure."""

    FOUND = "found"
    NOT_FOUND = "not_found"


#: What a provider's code or status is treated as: data in a table, never an if.
Verdict = Answer | Category


@dataclass(frozen=True, slots=True)
class Found:
    """The provider knows the token; this is what is behind it."""

    token: TokenRecord


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider does not know the token."""

    def __str__(self) -> str:
        return "not_found"


@dataclass(frozen=True, slots=True)
class Failure:
    """The provider's answer, or the lack of one, does not say what is behind the token.

    ``code`` is the provider's own, ``message`` the provider's own or this service's words; neither holds a secret.
    ``retry_after`` is how many seconds the provider asked to be left alone, if it did. ``may_pass``: a ``protocol``
    failure that often passes by itself, as an empty answer does. ``local``: this machine lacked something (file
    descriptors, memory, threads, ports), which says nothing of the provider. ``misdirected``: the answer names another
    token than the one asked for, so what comes next on its connection cannot be believed either.
    """

    category: Category
    message: str
    code: str | None = None
    http_status: int | None = None
    retry_after: float | None = None
    may_pass: bool = False
    local: bool = False
    misdirected: bool = False

    def __str__(self) -> str:
        return f"{self.category} {self.code}" if self.code else f"{self.category}"


Outcome = Found | NotFound | Failure
