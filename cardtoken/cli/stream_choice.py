"""Choosing entries of the streams in which the service keeps what did not end well."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cardtoken.cli.duration import duration

if TYPE_CHECKING:
    from redis import Redis

F = TypeVar("F", bound=Callable[..., Any])

_ENTRY_ID: Final = re.compile(r"\d{1,20}(-\d{1,20})?")
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry; in a field that is not text, the odd bytes are replaced."""

    id: str
    fields: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")


#: Returns one batch of a stream: at most so many entries from one id to another, in order.
Read = Callable[["Redis", str, str, int], list[StreamEntry]]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries are meant: those of these ids, or all of this age whose fields match."""

    ids: tuple[str, ...] = ()
    #: Seconds.
    newer_than: float | None = None
    older_than: float | None = None
    #: Field → its value.
    equal: Mapping[str, str] = field(default_factory=dict)
    #: Field → what has to occur in it.
    containing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Choice":
        """Return the choice that a command's options make; raise UsageError for ids that there cannot be."""
        ids = options.pop("ids", ())
        if wrong := [each for each in ids if not _ENTRY_ID.fullmatch(each)]:
            raise click.UsageError(f"{wrong[0]!r} is not the id of an entry; `list` shows them first on each line")
        ages = {name: options.pop(name, None) for name in ("newer_than", "older_than")}
        reason = options.pop("reason", None)
        equal = {name: value for name, value in options.items() if value is not None}
        return cls(ids=ids, **ages, equal=equal, containing={"reason": reason} if reason else {})

    @property
    def scoped(self) -> bool:
        """Whether any option narrows it."""
        return self != Choice()

    def entries(self, redis: "Redis", read: Read, until: str = "+") -> Iterator[StreamEntry]:
        """Return the entries, oldest first, read in batches; none that came after ``until``."""
        for found in self._found(redis, read, until):
            if self._means(found):
                yield found

    def _found(self, redis: "Redis", read: Read, until: str) -> Iterator[StreamEntry]:
        if self.ids:
            for each in self.ids:
                yield from read(redis, each, each, 1)
            return
        now: Any = redis.time()
        milliseconds = now[0] * 1000 + now[1] // 1000
        start = "-" if self.newer_than is None else str(max(0, milliseconds - int(self.newer_than * 1000)))
        if self.older_than is not None:
            oldest = max(0, milliseconds - int(self.older_than * 1000))
            until = str(oldest) if until == "+" else min(until, f"{oldest}-{2**64 - 1}", key=_position)
        while batch := read(redis, start, until, _BATCH):
            yield from batch
            start = f"({batch[-1].id}"

    def _means(self, entry: StreamEntry) -> bool:
        return all(entry[name] == value for name, value in self.equal.items()) and all(
            value.lower() in entry[name].lower() for name, value in self.containing.items()
        )


def _position(entry_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split("-"))


def ages(command: F) -> F:
    """Add the options by which age is chosen."""
    for name in ("older", "newer"):
        text = f"Only those {name} than that: 90s, 15m, 2h, 7d."
        command = click.option(f"--{name}-than", type=duration, help=text)(command)
    return command
