"""Look up what is behind a payment provider's card token: the client, and the models of what it sends and gets.

Importing the package alone loads neither redis nor pydantic: a name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cardtoken.async_client import AsyncClient
    from cardtoken.client import Client
    from cardtoken.contract import Lane, LookupResult, Status
    from cardtoken.errors import (
        CardTokenError,
        ClosedError,
        InvalidRequestError,
        LookupFailedError,
        LookupTimeoutError,
        RedisRefusedError,
        RedisUnavailableError,
        UnreadableResultError,
    )
    from cardtoken.message import Receipt
    from cardtoken.producer import Progress
    from cardtoken.providers import AfterpayRequest, OpayRequest

__version__ = "0.1.0"

__all__ = [
    "AfterpayRequest",
    "AsyncClient",
    "CardTokenError",
    "Client",
    "ClosedError",
    "InvalidRequestError",
    "Lane",
    "LookupFailedError",
    "LookupResult",
    "LookupTimeoutError",
    "OpayRequest",
    "Progress",
    "Receipt",
    "RedisRefusedError",
    "RedisUnavailableError",
    "Status",
    "UnreadableResultError",
]

_HOMES = {
    "AsyncClient": "cardtoken.async_client",
    "Client": "cardtoken.client",
    "Progress": "cardtoken.producer",
    "Receipt": "cardtoken.message",
    **dict.fromkeys(("Lane", "LookupResult", "Status"), "cardtoken.contract"),
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "cardtoken.errors"),
}


def __getattr__(name: str) -> object:
    # The request model of any provider: the names above are for type checkers.
    home = "cardtoken.providers" if name.endswith("Request") else _HOMES.get(name)
    found = getattr(import_module(home), name, None) if home else None
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found
