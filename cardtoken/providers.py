"""The providers: the name, request model and reference of each, said once.

The client, the command line, ``cardtoken status``, the contract's documents, and the worker derive their own lists
from ``PROVIDERS``. A new provider has its request model and its line here; docs/adding-a-provider.md has the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cardtoken.contract import LookupRequest, Reference


class OpayRequest(LookupRequest):
    """One element of ``requests`` of the task ``lookup.opay``."""

    opay_token: Reference


class AfterpayRequest(LookupRequest):
    """One element of ``requests`` of the task ``lookup.afterpay``."""

    original_request_id: Reference


@dataclass(frozen=True, slots=True)
class ProviderContract:
    """What producers and operators know of one provider."""

    #: As in the task ``lookup.opay``, the queue ``lookup.opay.bulk`` and the variable ``OPAY_RATE_LIMIT``.
    name: str
    #: As the provider writes its own name.
    title: str
    request: type[LookupRequest]
    #: What a reference is, as a person says it.
    reference: str

    @property
    def reference_field(self) -> str:
        """The field of the request model that holds the reference."""
        return self.request.reference_field


_ALL: Final = (
    ProviderContract("opay", "OPay", OpayRequest, "OPay's card token"),
    ProviderContract("afterpay", "Afterpay", AfterpayRequest, "the Request-Id of an Afterpay card verification"),
)


def _by_name(providers: Sequence[ProviderContract]) -> Mapping[str, ProviderContract]:
    """Return the providers by name. Raises ValueError where a mapping could be a request to two of them."""
    for what in ("name", "reference_field"):
        said = [getattr(provider, what) for provider in providers]
        if twice := sorted({each for each in said if said.count(each) > 1}):
            raise ValueError(f"two providers have the {what} {twice[0]!r}: requests are told apart by it")
    return {provider.name: provider for provider in providers}


PROVIDERS: Final = _by_name(_ALL)


def in_words(words: Iterable[str], last: str = "or") -> str:
    """Return words as a sentence lists them: ``a, b or c``."""
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end
