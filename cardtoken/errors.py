"""What the client raises. No text of these shows a card token, or anything else of a request."""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # pydantic takes a third of the time of a short command
    from cardtoken.contract import LookupFailure, LookupResult


class CardTokenError(Exception):
    """The base of all that the client raises by itself. They can be pickled, as pools of processes do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[CardTokenError], args: tuple[object, ...], state: dict[str, object]) -> CardTokenError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidRequestError(CardTokenError, ValueError):
    """A request that the service would refuse. It was not pushed."""

    #: Which one of those given to ``enqueue_many``, counted from 0.
    index: int | None = None


class RedisUnavailableError(CardTokenError):
    """Redis could not be reached, or did not answer, for as long as the client insists (``retry_for``).

    Whether the last push arrived is not known then. Pushing the same again under the same task id is safe.
    """


class RedisRefusedError(CardTokenError):
    """Redis answered with an error: a wrong password, a missing permission, a full memory, a key of another type."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        #: The first word of Redis' answer, such as ``NOPERM``, ``OOM`` or ``WRONGTYPE``.
        self.code: Final = code


class ClosedError(CardTokenError):
    """The client is closed."""

    def __init__(self) -> None:
        super().__init__("the client is closed: make a new one, and close it last")


class LookupTimeoutError(CardTokenError, TimeoutError):
    """No answer came in time. A result that comes later is not read, and expires."""

    def __init__(self, queue: str, timeout: float, task_id: str, lookup_id: str) -> None:
        super().__init__(
            f"no answer to lookup {lookup_id} within {timeout:g} s: check that a worker consumes {queue}, "
            "or allow it more time"
        )
        self.timeout: Final = timeout
        self.task_id: Final = task_id
        self.lookup_id: Final = lookup_id


class LookupFailedError(CardTokenError):
    """The lookup ended ``failed``."""

    def __init__(self, result: "LookupResult", error: "LookupFailure") -> None:
        code = f", code {error.code}" if error.code else ""
        advice = (
            "asking again later may succeed" if error.retryable else "asking again will not help until it is mended"
        )
        super().__init__(f"lookup {result.lookup_id} failed: {error.category}{code}; {advice}")
        #: The whole result; ``error.message`` has the provider's words.
        self.result: Final = result
        self.error: Final = error

    @property
    def category(self) -> str:
        """One of ``cardtoken.contract.Category``, or a later one: treat what you do not know like ``internal``."""
        return self.error.category

    @property
    def code(self) -> str | None:
        """The provider's own code, where it gave one."""
        return self.error.code

    @property
    def retryable(self) -> bool:
        """Return whether asking again later may succeed without a change by the producer or the operator."""
        return self.error.retryable


class UnreadableResultError(CardTokenError):
    """An entry of a result queue is not a result that this version reads."""

    def __init__(self, text: str, *, newer: bool) -> None:
        super().__init__(text)
        #: Whether it is one of a later schema version, which a later version of this package reads.
        self.newer: Final = newer
