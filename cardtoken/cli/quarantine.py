"""``cardtoken quarantine``: queue entries that are not messages, kept byte for byte."""

import base64
from typing import TYPE_CHECKING, Any, Final

import click

from cardtoken.cli.context import Context
from cardtoken.cli.entries import Entry, moment
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.stream_choice import F, StreamEntry, ages
from cardtoken.cli.stream_commands import KeptStream, Selection, confirmation, listing, mover, refused
from cardtoken.keys import QUARANTINE
from cardtoken.scripts import source

if TYPE_CHECKING:
    from redis import Redis

#: Entries read at a time: one may be of 16 MB, and Redis reads it whole.
_AT_ONCE: Final = 20


def _read(redis: "Redis", start: str, end: str, count: int) -> list[StreamEntry]:
    script = source(__package__, "look")
    found: Any = redis.eval(script, 1, QUARANTINE, start, end, str(min(count, _AT_ONCE)))
    return [StreamEntry(name.decode(), _fields(fields)) for name, fields in found]


def _fields(flat: list[bytes]) -> dict[str, str]:
    texts = [each.decode(errors="replace") for each in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


_STREAM: Final = KeptStream(QUARANTINE, _read, kind=("queue", "reason"), noun="entry", ended="released")


def _chosen(command: F) -> F:
    command = click.option("--reason", help="Only those whose reason has this in it.")(command)
    command = click.option("--queue", help="Only those of this queue, such as lookup.opay.bulk.")(command)
    return ages(command)


@click.group()
def quarantine() -> None:
    """Look at queue entries that are not messages; put them back, or away.

    \b
    cardtoken quarantine list
    cardtoken quarantine show 1763700000000-0 --reveal
    cardtoken quarantine release 1763700000000-0
    cardtoken quarantine discard --older-than 30d
    """


@quarantine.command("list")
@_chosen
@listing
@click.pass_obj
def list_(context: Context, /, limit: int, as_json: bool, **options: Any) -> Exit:
    """List the quarantine, oldest first: id, time, queue, size in bytes, and the reason.

    \b
    cardtoken quarantine list --queue lookup.opay.bulk --newer-than 1d
    """
    return _STREAM.list(
        context,
        options,
        row=lambda entry: (entry.id, entry["quarantined_at"], entry["queue"], _size(entry), entry["reason"]),
        shown=lambda entry: Entry(
            [(entry.id, "cyan"), moment(entry["quarantined_at"]), entry["queue"]],
            [f"{_size(entry)} bytes"],
            entry["reason"],
        ),
        document=lambda entry: {"id": entry.id, **entry.fields},
        limit=limit,
        as_json=as_json,
    )


@quarantine.command()
@click.argument("entry_id", metavar="ID")
@click.option("--reveal", is_flag=True, help="Show its bytes, which may hold card tokens.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; the bytes in base64.")
@click.pass_obj
def show(context: Context, entry_id: str, reveal: bool, as_json: bool) -> Exit:
    """Show one entry: where it was found, when, why it is not a message, and with --reveal its bytes.

    \b
    cardtoken quarantine show 1763700000000-0 --reveal --json | jq -r .raw | base64 -d
    """
    redis = context.redis()
    found = _STREAM.find(redis, entry_id)
    if found is None:
        return Exit.NOT_FOUND
    document: dict[str, Any] = {"id": found.id, **found.fields}
    if reveal:
        answer: Any = redis.xrange(QUARANTINE, found.id, found.id)
        raw: bytes = answer[0][1].get(b"raw", b"") if answer else b""
        # Not as it is: control characters would play with the terminal.
        document["raw"] = base64.b64encode(raw).decode() if as_json else raw.decode(errors="backslashreplace")
    if as_json:
        context.say_json(document)
    else:
        for name, value in document.items():
            click.echo(f"{name}: {value if value.isprintable() else ascii(value)[1:-1]}")
    return Exit.DONE


@quarantine.command()
@_chosen
@confirmation
@click.pass_obj
def release(context: Context, /, yes: bool, dry_run: bool, **options: Any) -> Exit:
    """Put entries back on their queues, byte for byte: shows which, then asks whether to go on.

    For an entry that the release that runs now takes for a message. One that it does not take comes back here.

    \b
    cardtoken quarantine release 1763700000000-0
    cardtoken quarantine release --reason "larger than the limit" --newer-than 1h

    Exit status: 0 all released, 1 some could not be, 3 there is none.
    """
    selection = Selection(context, _STREAM, options, "release")
    if not selection.count():
        return Exit.NOT_FOUND
    refusal = refused("Release them?", yes=yes, dry_run=dry_run)
    if refusal is not None:
        return refusal
    move = mover(selection.redis)
    released, left = 0, 0
    for entry in selection.entries("releasing"):
        if why := _cannot(entry):
            click.echo(f"{entry.id} stays: {why}", err=True)
            left += 1
            continue
        gone: Any = move(keys=[QUARANTINE, entry["queue"]], args=["", entry.id])
        released += not gone
    click.echo(f"{released:,} released")
    return Exit.FAILED if left else Exit.DONE


@quarantine.command()
@_chosen
@confirmation
@click.pass_obj
def discard(context: Context, /, yes: bool, dry_run: bool, **options: Any) -> Exit:
    """Remove entries for good: shows how many of which kind, then asks whether to go on.

    \b
    cardtoken quarantine discard --queue lookup.opay.bulk --older-than 30d
    """
    return _STREAM.discard(context, options, yes=yes, dry_run=dry_run)


def _cannot(entry: StreamEntry) -> str | None:
    if entry["truncated_from"]:
        return f"of its {int(entry['truncated_from']):,} bytes only the first were kept"
    if not entry["queue"].startswith("lookup."):
        return "it does not name a lookup queue"
    return None


def _size(entry: StreamEntry) -> str:
    return entry["truncated_from"] or entry["bytes"]
