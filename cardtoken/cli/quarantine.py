"""``cardtoken quarantine``: queue entries that are no message, kept byte for byte."""

import base64
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import click

from cardtoken.cli import stream_commands
from cardtoken.cli.context import Context
from cardtoken.cli.entries import Entry as Shown
from cardtoken.cli.entries import moment
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.stream_commands import Choice, Entry
from cardtoken.contract import QUARANTINE

if TYPE_CHECKING:
    from redis import Redis

_KIND: Final = ("queue", "reason")
#: Looked at together: an entry may be of 16 MB, and Redis reads it whole.
_AT_ONCE: Final = 20


def _read(redis: "Redis", start: str, end: str, count: int) -> list[Entry]:
    script = files(__package__).joinpath("look.lua").read_text(encoding="utf-8")
    found: Any = redis.eval(script, 1, QUARANTINE, start, end, str(min(count, _AT_ONCE)))
    return [Entry(name.decode(), _fields(fields)) for name, fields in found]


def _fields(flat: list[bytes]) -> dict[str, str]:
    texts = [each.decode(errors="replace") for each in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _chosen(command: stream_commands.F) -> stream_commands.F:
    command = click.option("--reason", help="Only those whose reason has this in it.")(command)
    command = click.option("--queue", help="Only those of this queue, such as lookup.opay.bulk.")(command)
    return stream_commands.ages(command)


@click.group()
def quarantine() -> None:
    """Look at queue entries that are no message; put them back, or away.

    \b
    cardtoken quarantine list
    cardtoken quarantine show 1763700000000-0 --reveal
    cardtoken quarantine release 1763700000000-0
    cardtoken quarantine discard --older-than 30d
    """


@quarantine.command("list")
@_chosen
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="How many; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.pass_obj
def list_(context: Context, /, limit: int, as_json: bool, **options: Any) -> Exit:
    """List the quarantine, oldest first: id, time, queue, size in bytes, and the reason.

    \b
    cardtoken quarantine list --queue lookup.opay.bulk --newer-than 1d
    """
    return stream_commands.listed(
        context,
        Choice.of(options).entries(context.redis(), _read),
        row=lambda entry: (entry.id, entry["quarantined_at"], entry["queue"], _size(entry), entry["reason"]),
        shown=lambda entry: Shown(
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
    """Show one entry: where it was found, when, why it is no message, and with --reveal its bytes.

    \b
    cardtoken quarantine show 1763700000000-0 --reveal --json | jq -r .raw | base64 -d
    """
    redis = context.redis()
    found = next(Choice.of({"ids": (entry_id,)}).entries(redis, _read), None)
    if found is None:
        click.echo(f"There is no entry {entry_id}: it was released, discarded, or is too old.", err=True)
        return Exit.NOT_FOUND
    told: dict[str, Any] = {"id": found.id, **found.fields}
    if reveal:
        answer: Any = redis.xrange(QUARANTINE, found.id, found.id)
        raw: bytes = answer[0][1].get(b"raw", b"") if answer else b""
        # Not as it is: control characters would play with the terminal.
        told["raw"] = base64.b64encode(raw).decode() if as_json else raw.decode(errors="backslashreplace")
    if as_json:
        context.say_json(told)
    else:
        for name, value in told.items():
            click.echo(f"{name}: {value if value.isprintable() else ascii(value)[1:-1]}")
    return Exit.DONE


@quarantine.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@_chosen
@stream_commands.confirmation
@click.pass_obj
def release(context: Context, /, yes: bool, dry_run: bool, **options: Any) -> Exit:
    """Put entries back on their queues, byte for byte: shows which, then asks whether to go on.

    For what is a message after all, to the release that runs now. What still is none comes back here.

    \b
    cardtoken quarantine release 1763700000000-0
    cardtoken quarantine release --reason "larger than the limit" --newer-than 1h

    Exit status: 0 all released, 1 some could not be, 3 there is none.
    """
    choice = Choice.of(options)
    stream_commands.scoped(choice, "release")
    redis = context.redis()
    until = stream_commands.last_id(redis, QUARANTINE)
    total = stream_commands.counted(context, choice.entries(redis, _read, until), _KIND, "to release")
    if not total:
        return Exit.NOT_FOUND
    if not stream_commands.agreed("Release them?", yes=yes, dry_run=dry_run):
        return Exit.DONE if dry_run else Exit.FAILED
    script = redis.register_script(files(__package__).joinpath("move.lua").read_text(encoding="utf-8"))
    released, left = 0, 0
    for entry in context.progress(choice.entries(redis, _read, until), total, "releasing"):
        if why := _cannot(entry):
            click.echo(f"{entry.id} stays: {why}", err=True)
            left += 1
            continue
        gone: Any = script(keys=[QUARANTINE, entry["queue"]], args=["", entry.id])
        released += not gone
    click.echo(f"{released:,} released")
    return Exit.FAILED if left else Exit.DONE


@quarantine.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@_chosen
@stream_commands.confirmation
@click.pass_obj
def discard(context: Context, /, yes: bool, dry_run: bool, **options: Any) -> Exit:
    """Remove entries for good: shows how many of which kind, then asks whether to go on.

    \b
    cardtoken quarantine discard --queue lookup.opay.bulk --older-than 30d
    """
    return stream_commands.discarded(context, Choice.of(options), _read, QUARANTINE, _KIND, yes=yes, dry_run=dry_run)


def _cannot(entry: Entry) -> str | None:
    if entry["truncated_from"]:
        return f"of its {int(entry['truncated_from']):,} bytes only the first were kept"
    if not entry["queue"].startswith("lookup."):
        return "it names no lookup queue"
    return None


def _size(entry: Entry) -> str:
    return entry["truncated_from"] or entry["bytes"]
