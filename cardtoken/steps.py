"""What both clients do, without the doing: generators that yield steps, for a client to take each and send its answer.

A client of either kind runs the same generator. It differs in nothing but how it asks Redis and how it waits.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import redis

from cardtoken.backoff import Backoff
from cardtoken.bounded import UnusableServerError
from cardtoken.errors import RedisRefusedError, RedisUnavailableError
from cardtoken.refusals import code_of, text_of

T = TypeVar("T")
Command = tuple[str | bytes | int, ...]

#: Between attempts to reach Redis.
BACKOFF: Final = Backoff(0.05, 1.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class Ask:
    """Send these commands in one go, no transaction; the replies as Redis sent them, errors among them.

    A client that is closed refuses, except for what is to be left tidy.
    """

    commands: Sequence[Command] = field(repr=False)
    tidying: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds, or until the client is closed."""

    seconds: float


Steps = Generator[Ask | Pause, Any, T]


def ask_all(commands: Sequence[Command], patience: float, *, tidying: bool = False) -> Steps[list[Any]]:
    """Return the replies to commands; while Redis is away they are all sent again, for ``patience`` seconds.

    Raises RedisUnavailableError after that, and RedisRefusedError for the first answer that is an error.
    """
    step = Ask(commands, tidying)
    end = time.monotonic() + patience
    for pause in BACKOFF.pauses():
        try:
            answers = yield step
        except UnusableServerError as error:
            raise RedisUnavailableError(f"Redis {error}") from error
        except (redis.AuthenticationError, redis.ResponseError) as error:  # a new connection was refused
            raise _refused(commands[0], error) from None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if time.monotonic() + pause > end:
                raise RedisUnavailableError(
                    f"Redis cannot be reached ({error}): check the URL and that the server runs; "
                    "retry_for is for how many seconds the client insists"
                ) from error
        else:
            for command, answer in zip(commands, answers, strict=True):
                if isinstance(answer, redis.RedisError):
                    raise _refused(command, answer)
            return list(answers)
        yield Pause(pause)
    raise AssertionError("there is always one pause more")


def ask(command: Command, patience: float, *, tidying: bool = False) -> Steps[Any]:
    """Return the reply to one command; see :func:`ask_all`."""
    [answer] = yield from ask_all([command], patience, tidying=tidying)
    return answer


def _refused(command: Command, error: redis.RedisError) -> RedisRefusedError:
    return RedisRefusedError(f"Redis refused {command[0]!s}: {text_of(error)}", code_of(error))
