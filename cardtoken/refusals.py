"""What Redis says when it refuses a command: the code, the fix, and whether waiting may help."""

import re
from typing import Final

import redis

#: The codes that redis-py turns into a type of its own, and cuts off the text.
_BY_TYPE: Final[dict[type[redis.RedisError], str]] = {
    redis.AuthenticationError: "NOAUTH",
    redis.BusyLoadingError: "LOADING",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.OutOfMemoryError: "OOM",
    redis.ReadOnlyError: "READONLY",
}
_ADVICE: Final = {
    "NOAUTH": "check user and password in the URL",
    "NOPERM": "the user needs more permissions (ACL)",
    "OOM": "its memory is full of what is not worked off: are there workers, and consumers?",
    "READONLY": "the URL names a replica, and has to name the primary",
    "MISCONF": "it cannot save to its disk: is that full?",
    "NOREPLICAS": "its replicas are away",
    "MASTERDOWN": "it is a replica whose primary is away",
    "BUSY": "a script holds it up",
    "LOADING": "it reads its data",
}
#: States of a server that pass by themselves, or once an operator has done something, with the same URL.
_MAY_PASS: Final = frozenset({*_ADVICE, "CLUSTERDOWN", "TRYAGAIN", "WRONGPASS"})
#: How a script of Redis 6.2 quotes what a command in it was refused for.
_QUOTED: Final = re.compile(rf"-({'|'.join(sorted(_MAY_PASS))})\b")
#: Where a script of later versions was.
_SCRIPT: Final = re.compile(r" script: [0-9a-f]{40}.*")
#: How a script says NOPERM, by version.
_NO_PERMISSION_IN_SCRIPT: Final = ("ACL failure in script", "The user executing the script can't")


def code_of(error: redis.RedisError) -> str:
    """The code of a refusal, such as ``NOPERM``, ``OOM`` or ``WRONGTYPE``."""
    for kind, code in _BY_TYPE.items():
        if isinstance(error, kind):
            return code
    text = str(error)
    if any(words in text for words in _NO_PERMISSION_IN_SCRIPT):
        return "NOPERM"
    if quoted := _QUOTED.search(text):
        return quoted[1]
    return text.partition(" ")[0]


def text_of(error: redis.RedisError) -> str:
    """What Redis said, and what to do. Nothing of the command is in it."""
    # Of a command that it does not know, Redis quotes what followed: in a push that would be the card tokens.
    text = _SCRIPT.sub("", str(error).partition(", with args")[0]).rstrip(".")
    advice = _ADVICE.get(code_of(error))
    return f"{text}; {advice}" if advice else text


def may_pass(code: str) -> bool:
    """Return whether the same command may succeed later with the same URL."""
    return code in _MAY_PASS


def is_away(error: redis.RedisError) -> bool:
    """Whether there was no answer: no connection, or none in time."""
    lost = isinstance(error, redis.ConnectionError | redis.TimeoutError)
    return lost and not isinstance(error, redis.AuthenticationError | redis.BusyLoadingError)


def is_worth_waiting(error: redis.RedisError) -> bool:
    """Whether to go on trying: Redis is away, slow, or in a state that may pass."""
    return is_away(error) or may_pass(code_of(error))
