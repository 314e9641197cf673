"""Entries of the streams in which the service keeps what did not end well: choosing, showing and removing them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cardtoken.cli.context import Context
from cardtoken.cli.exit_codes import Exit

if TYPE_CHECKING:
    from redis import Redis
    from rich.console import RenderableType

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_ENTRY_ID: Final = re.compile(r"\d{1,20}(-\d{1,20})?")
_BATCH: Final = 500


def age(text: str) -> float:
    """A number and a unit as seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not found:
        raise click.BadParameter(f"{text!r} is no age; say it as 90s, 15m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; a field that is no text has its odd bytes replaced."""

    id: str
    fields: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")


#: One batch of a stream: at most so many entries from one id to another, in order.
Read = Callable[["Redis", str, str, int], list[Entry]]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries are meant: those of these ids, or all that are of this age and say what is asked for."""

    ids: tuple[str, ...] = ()
    newer_than: float | None = None
    older_than: float | None = None
    #: Field → what it has to say.
    equal: Mapping[str, str] = field(default_factory=dict)
    #: Field → what has to occur in it.
    containing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Choice":
        """From a command's options; raises UsageError for ids that there cannot be."""
        ids = options.pop("ids", ())
        if wrong := [each for each in ids if not _ENTRY_ID.fullmatch(each)]:
            raise click.UsageError(f"{wrong[0]!r} is no entry's id; `list` shows them first on each line")
        ages = {name: options.pop(name, None) for name in ("newer_than", "older_than")}
        reason = options.pop("reason", None)
        equal = {name: value for name, value in options.items() if value is not None}
        return cls(ids=ids, **ages, equal=equal, containing={"reason": reason} if reason else {})

    @property
    def scoped(self) -> bool:
        """Whether it says anything at all."""
        return self != Choice()

    def entries(self, redis: "Redis", read: Read, until: str = "+") -> Iterator[Entry]:
        """The entries, oldest first, in batches; none that came after ``until``."""
        for found in self._found(redis, read, until):
            if self._means(found):
                yield found

    def _found(self, redis: "Redis", read: Read, until: str) -> Iterator[Entry]:
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

    def _means(self, entry: Entry) -> bool:
        return all(entry[name] == value for name, value in self.equal.items()) and all(
            value.lower() in entry[name].lower() for name, value in self.containing.items()
        )


def _position(entry_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split("-"))


def last_id(redis: "Redis", stream: str) -> str:
    """The id of the newest entry, so that what comes meanwhile is not meant; "0" where there is none."""
    newest: Any = redis.xrevrange(stream, count=1)
    return str(newest[0][0].decode()) if newest else "0"


def ages(command: F) -> F:
    """The options by which age is chosen."""
    for name in ("older", "newer"):
        told = f"Only those {name} than that: 90s, 15m, 2h, 7d."
        command = click.option(f"--{name}-than", type=age, metavar="DURATION", help=told)(command)
    return command


def confirmation(command: F) -> F:
    """The options of what changes many things at once."""
    command = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")(command)
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def listed(
    context: Context,
    entries: Iterable[Entry],
    *,
    row: Callable[[Entry], Sequence[str]],
    shown: Callable[[Entry], "RenderableType"],
    document: Callable[[Entry], Mapping[str, object]],
    limit: int,
    as_json: bool,
) -> Exit:
    """Show the entries, at most ``limit`` unless that is 0; says on standard error how many more there are.

    ``shown`` makes what a terminal shows of one, ``row`` what a pipe does.
    """
    import itertools
    import json

    entries = iter(entries)
    found = list(itertools.islice(entries, limit or None))
    if as_json:
        for entry in found:
            click.echo(json.dumps(document(entry), ensure_ascii=False))
    elif context.on_a_terminal:
        for entry in found:
            context.console.print(shown(entry))
    else:
        for entry in found:
            click.echo("\t".join(" ".join(each.split()) for each in row(entry)))
    if more := sum(1 for _ in entries):
        context.errors.print(f"{more:,} more; --limit 0 shows all")
    if not found:
        context.errors.print("There is none.")
    return Exit.DONE


def counted(context: Context, entries: Iterable[Entry], by: Sequence[str], what: str) -> int:
    """Show on standard error how many entries there are of each kind; answers how many there are."""
    from collections import Counter

    kinds = Counter(tuple(entry[name] for name in by) for entry in entries)
    total = sum(kinds.values())
    context.errors.print(f"{total:,} {what}")
    for kind, number in kinds.most_common(20):
        # markup: what producers and providers wrote is no formatting of ours.
        context.errors.print(f"  {number:>9,}  {' · '.join(each or '-' for each in kind)}", markup=False)
    if len(kinds) > 20:
        context.errors.print(f"             and {len(kinds) - 20:,} kinds more")
    return total


def scoped(choice: Choice, what: str) -> None:
    """Raise UsageError where nothing is said about which entries are meant."""
    if not choice.scoped:
        raise click.UsageError(f"say which to {what}: ids from `list`, or an option such as --newer-than 2h")


def agreed(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Whether somebody wants it: ``--yes``, or an answer; raises UsageError where nobody can be asked."""
    import sys

    if dry_run:
        click.echo("Nothing was changed: --dry-run", err=True)
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: look with --dry-run, then say --yes")
    if click.confirm(question, err=True):
        return True
    click.echo("Nothing was changed.", err=True)
    return False


def discarded(
    context: Context, choice: Choice, read: Read, stream: str, by: Sequence[str], *, yes: bool, dry_run: bool
) -> Exit:
    """Remove the entries for good, once somebody has agreed."""
    scoped(choice, "discard")
    redis = context.redis()
    until = last_id(redis, stream)
    total = counted(context, choice.entries(redis, read, until), by, "to discard")
    if not total:
        return Exit.NOT_FOUND
    if not agreed("Discard them? They cannot be had back.", yes=yes, dry_run=dry_run):
        return Exit.DONE if dry_run else Exit.FAILED
    removed: Any = 0
    for batch in batches(context.progress(choice.entries(redis, read, until), total, "discarding")):
        removed += redis.xdel(stream, *(entry.id for entry in batch))
    click.echo(f"{removed:,} discarded")
    return Exit.DONE


def batches(entries: Iterable[Entry], size: int = _BATCH) -> Iterator[list[Entry]]:
    """The entries, so many at a time."""
    import itertools

    entries = iter(entries)
    while batch := list(itertools.islice(entries, size)):
        yield batch
