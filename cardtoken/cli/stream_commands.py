"""What the commands for dead letters and for the quarantine share: listing, showing, changing and removing entries."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cardtoken.cli.context import Context
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.stream_choice import Choice, F, Read, StreamEntry
from cardtoken.scripts import source

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script
    from rich.console import RenderableType

_BATCH = 500
_KINDS_SHOWN = 20


def listing(command: F) -> F:
    """Add the options of a list."""
    command = click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")(command)
    return click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="How many; 0 for all.")(
        command
    )


def confirmation(command: F) -> F:
    """Add the ids, and the options of a command that changes many things at once."""
    command = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")(command)
    command = click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)
    return click.argument("ids", nargs=-1, metavar="[ID]…")(command)


@dataclass(frozen=True, slots=True)
class KeptStream:
    """A stream in which the service keeps what did not end well."""

    key: str
    read: Read
    #: The fields whose values make a kind, by which entries are counted.
    kind: Sequence[str]
    noun: str
    #: What a command does to an entry but discarding it, in the past.
    ended: str

    def find(self, redis: "Redis", entry_id: str) -> StreamEntry | None:
        """Return the entry of this id; None where there is none, which standard error says then."""
        found = next(Choice.of({"ids": (entry_id,)}).entries(redis, self.read), None)
        if found is None:
            text = f"There is no {self.noun} {entry_id}: it was {self.ended}, discarded, or is too old."
            click.echo(text, err=True)
        return found

    def list(
        self,
        context: Context,
        options: dict[str, Any],
        *,
        row: Callable[[StreamEntry], Sequence[str]],
        shown: Callable[[StreamEntry], "RenderableType"],
        document: Callable[[StreamEntry], Mapping[str, object]],
        limit: int,
        as_json: bool,
    ) -> Exit:
        """Show the chosen entries, at most ``limit`` unless that is 0; standard error says how many more there are.

        ``shown`` makes what a terminal shows of one, ``row`` what a pipe does.
        """
        import itertools
        import json

        entries = Choice.of(options).entries(context.redis(), self.read)
        found = list(itertools.islice(entries, limit or None))
        for entry in found:
            if as_json:
                click.echo(json.dumps(document(entry), ensure_ascii=False))
            elif context.on_a_terminal:
                context.console.print(shown(entry))
            else:
                click.echo("\t".join(" ".join(each.split()) for each in row(entry)))
        if more := sum(1 for _ in entries):
            context.errors.print(f"{more:,} more; --limit 0 shows all")
        if not found:
            context.errors.print("There is none.")
        return Exit.DONE

    def discard(self, context: Context, options: dict[str, Any], *, yes: bool, dry_run: bool) -> Exit:
        """Remove the chosen entries for good, once the operator has agreed."""
        selection = Selection(context, self, options, "discard")
        if not selection.count():
            return Exit.NOT_FOUND
        refusal = refused("Discard them? They cannot be had back.", yes=yes, dry_run=dry_run)
        if refusal is not None:
            return refusal
        removed: Any = 0
        for batch in batches(selection.entries("discarding"), _BATCH):
            removed += selection.redis.xdel(self.key, *(entry.id for entry in batch))
        click.echo(f"{removed:,} discarded")
        return Exit.DONE


class Selection:
    """The entries that a command is to change; none that came after it began."""

    def __init__(self, context: Context, stream: KeptStream, options: dict[str, Any], verb: str) -> None:
        self._context = context
        self._stream = stream
        self._verb = verb
        self._choice = Choice.of(options)
        if not self._choice.scoped:
            raise click.UsageError(f"say which to {verb}: ids from `list`, or an option such as --newer-than 2h")
        self.redis = context.redis()
        newest: Any = self.redis.xrevrange(stream.key, count=1)
        self._until: str = newest[0][0].decode() if newest else "0"
        self._total = 0

    def count(self, each: Callable[[StreamEntry], object] = lambda _: None) -> int:
        """Show on standard error how many entries there are of each kind; return how many there are.

        ``each`` is called with every entry.
        """
        from collections import Counter

        kinds: Counter[tuple[str, ...]] = Counter()
        for entry in self._entries():
            kinds[tuple(entry[name] for name in self._stream.kind)] += 1
            each(entry)
        self._total = sum(kinds.values())
        errors = self._context.errors
        errors.print(f"{self._total:,} to {self._verb}")
        for kind, number in kinds.most_common(_KINDS_SHOWN):
            # markup: what producers and providers wrote is not formatting of ours.
            errors.print(f"  {number:>9,}  {' · '.join(each or '-' for each in kind)}", markup=False)
        if len(kinds) > _KINDS_SHOWN:
            errors.print(f"             and {len(kinds) - _KINDS_SHOWN:,} kinds more")
        return self._total

    def entries(self, doing: str) -> Iterator[StreamEntry]:
        """Return the entries, with a bar on a terminal."""
        return self._context.progress(self._entries(), self._total, doing)

    def _entries(self) -> Iterator[StreamEntry]:
        return self._choice.entries(self.redis, self._stream.read, self._until)


def refused(question: str, *, yes: bool, dry_run: bool) -> Exit | None:
    """Return None where the operator wants it, by ``--yes`` or by an answer, and else the exit status.

    Raises UsageError where there is no terminal to ask on.
    """
    import sys

    if dry_run:
        click.echo("Nothing was changed: --dry-run", err=True)
        return Exit.DONE
    if yes:
        return None
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: look with --dry-run, then say --yes")
    if click.confirm(question, err=True):
        return None
    click.echo("Nothing was changed.", err=True)
    return Exit.FAILED


def mover(redis: "Redis") -> "Script":
    """Return the script that puts an entry on a queue and takes what it was made of out of a stream."""
    return redis.register_script(source(__package__, "move"))


def batches(entries: Iterable[StreamEntry], size: int) -> Iterator[list[StreamEntry]]:
    """Return the entries, so many at a time."""
    import itertools

    entries = iter(entries)
    while batch := list(itertools.islice(entries, size)):
        yield batch
