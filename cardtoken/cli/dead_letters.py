"""``cardtoken dead-letters``: lookups that failed for a reason that an operator can act on."""

from typing import TYPE_CHECKING, Any, Final

import click

from cardtoken.cli.context import Context
from cardtoken.cli.entries import Entry, moment
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.one_off_queues import asked_for, is_one_off
from cardtoken.cli.replay import Replayer, parsed
from cardtoken.cli.stream_choice import F, StreamEntry, ages
from cardtoken.cli.stream_commands import KeptStream, Selection, batches, confirmation, listing, refused
from cardtoken.contract import Lane
from cardtoken.keys import DEAD_LETTERS
from cardtoken.providers import PROVIDERS

if TYPE_CHECKING:
    from redis import Redis

_LANES: Final = [str(lane) for lane in Lane]
#: Entries that are looked at together, so that those of one message become one message again.
_WINDOW: Final = 5_000


def _read(redis: "Redis", start: str, end: str, count: int) -> list[StreamEntry]:
    found: Any = redis.xrange(DEAD_LETTERS, start, end, count=count)
    return [
        StreamEntry(name.decode(), {key.decode(): value.decode(errors="replace") for key, value in fields.items()})
        for name, fields in found
    ]


_STREAM: Final = KeptStream(
    DEAD_LETTERS,
    _read,
    kind=("provider", "account", "lane", "category", "code"),
    noun="dead letter",
    ended="replayed",
)


def _chosen(command: F) -> F:
    for option in (
        click.option("--task-id", help="Only those of this message."),
        click.option("--lookup-id", help="Only this lookup."),
        click.option("--code", help="Only those with this code of the provider, such as 90."),
        click.option("--category", help="Only these: unavailable, timeout, authentication, rejected, protocol, …"),
        click.option("--lane", type=click.Choice(_LANES), help="Only those of this lane."),
        click.option("--account", help="Only those of this account."),
        click.option(
            "--provider",
            help=f"Only those of this provider: {', '.join(PROVIDERS)}.",
            shell_complete=lambda _, __, begun: [name for name in PROVIDERS if name.startswith(begun)],
        ),
    ):
        command = option(command)
    return ages(command)


@click.group()
def dead_letters() -> None:
    """Look at lookups that failed for a reason that you can act on; ask again, or put them away.

    \b
    cardtoken dead-letters list --provider opay --newer-than 2h
    cardtoken dead-letters show 1763700000000-0
    cardtoken dead-letters replay --provider opay --category unavailable --newer-than 2h
    cardtoken dead-letters discard --category rejected --older-than 7d
    """


@dead_letters.command("list")
@_chosen
@listing
@click.pass_obj
def list_(context: Context, /, limit: int, as_json: bool, **options: Any) -> Exit:
    """List dead letters, oldest first: id, time, lookup, and why it failed.

    \b
    cardtoken dead-letters list --category authentication
    cardtoken dead-letters list --limit 0 --json | jq -r .code | sort | uniq -c
    """
    return _STREAM.list(
        context,
        options,
        row=lambda entry: (
            entry.id,
            *(entry[name] for name in ("failed_at", "lookup_id", *_STREAM.kind)),
            _message(entry),
        ),
        shown=lambda entry: Entry(
            [(entry.id, "cyan"), moment(entry["failed_at"]), entry["provider"], entry["category"], entry["code"]],
            [entry["lookup_id"], entry["account"], entry["lane"]],
            _message(entry),
        ),
        document=lambda entry: _document(entry, reveal=False),
        limit=limit,
        as_json=as_json,
    )


@dead_letters.command()
@click.argument("entry_id", metavar="ID")
@click.option("--reveal", is_flag=True, help="Show the card token and the metadata.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def show(context: Context, entry_id: str, reveal: bool, as_json: bool) -> Exit:
    """Show one dead letter: the request as it was sent, and the result as it was published."""
    from cardtoken.cli.render import rows, table

    found = _STREAM.find(context.redis(), entry_id)
    if found is None:
        return Exit.NOT_FOUND
    document = _document(found, reveal=reveal)
    if as_json:
        context.say_json(document)
    elif context.on_a_terminal:
        context.console.print(table(document))
    else:
        for name, value in rows(document):
            click.echo(f"{name}: {value}")
    return Exit.DONE


@dead_letters.command()
@_chosen
@confirmation
@click.option("--reply-to", default=None, metavar="NAME", help="Result queue for those whose own was one-off.")
@click.option("--into", type=click.Choice(_LANES), default=None, help="Lane to ask in  [default: the one it had]")
@click.pass_obj
def replay(
    context: Context,
    /,
    yes: bool,
    dry_run: bool,
    reply_to: str | None,
    into: str | None,
    **options: Any,
) -> Exit:
    """Ask again for dead letters: shows how many of which kind, then asks whether to go on.

    A replayed lookup keeps its lookup_id, metadata and result queue, has a new deadline, and its result says
    replay_of. It leaves the list only together with its message being put on the queue. What asked in a one-off reply
    queue, or was a line of `cardtoken bulk`, needs --reply-to: nothing reads that queue any more. Results that come in
    a queue of another name are shown by `cardtoken results --reply-to NAME`.

    \b
    cardtoken dead-letters replay 1763700000000-0
    cardtoken dead-letters replay --provider opay --category unavailable --newer-than 2h --dry-run
    cardtoken dead-letters replay --task-id 0b5e… --reply-to by-hand --into bulk --yes

    Exit status: 0 all replayed, 1 some could not be, 3 there is none.
    """
    from cardtoken.message import checked_reply_to

    # What fails again comes after this one, and is not replayed again.
    selection = Selection(context, _STREAM, options, "replay")
    one_off = 0

    def count_one_off(entry: StreamEntry) -> None:
        nonlocal one_off
        one_off += is_one_off(parsed(entry["request"]))

    if not selection.count(count_one_off):
        return Exit.NOT_FOUND
    if one_off and reply_to is None:
        reply_to = asked_for(one_off, dry_run=dry_run)
        if reply_to is None and not dry_run:
            click.echo("Nothing was changed.", err=True)
            return Exit.FAILED
    refusal = refused("Replay them?", yes=yes, dry_run=dry_run)
    if refusal is not None:
        return refusal
    own = checked_reply_to(reply_to) if reply_to else None
    replayer = Replayer(selection.redis, own, Lane(into) if into else None)
    for window in batches(selection.entries("replaying"), _WINDOW):
        replayer.replay(window)
    click.echo(f"{replayer.replayed:,} replayed")
    if one_off and reply_to:
        click.echo(f"Answers to one-off queues come in {reply_to}: cardtoken results --reply-to {reply_to}", err=True)
    for reason, ids in replayer.left.items():
        click.echo(
            f"{len(ids):,} left where they are: {reason} ({', '.join(ids[:3])}{' …' * (len(ids) > 3)})", err=True
        )
    return Exit.FAILED if replayer.left else Exit.DONE


@dead_letters.command()
@_chosen
@confirmation
@click.pass_obj
def discard(context: Context, /, yes: bool, dry_run: bool, **options: Any) -> Exit:
    """Remove dead letters for good: shows how many of which kind, then asks whether to go on.

    \b
    cardtoken dead-letters discard 1763700000000-0
    cardtoken dead-letters discard --category rejected --older-than 7d
    """
    return _STREAM.discard(context, options, yes=yes, dry_run=dry_run)


def _message(entry: StreamEntry) -> str:
    return str((parsed(entry["result"]).get("error") or {}).get("message") or "")


def _document(entry: StreamEntry, *, reveal: bool) -> dict[str, Any]:
    from cardtoken.cli.masking import masked_request, masked_result

    shown: dict[str, Any] = {"id": entry.id, **entry.fields}
    request, result = parsed(entry["request"]), parsed(entry["result"])
    shown["request"] = request if reveal else masked_request(request)
    shown["result"] = result if reveal else masked_result(result)
    return shown
