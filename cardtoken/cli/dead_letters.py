"""``cardtoken dead-letters``: lookups that failed for a reason that somebody can act on."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import click

from cardtoken.cli import stream_commands
from cardtoken.cli.context import Context
from cardtoken.cli.entries import Entry as Shown
from cardtoken.cli.entries import moment
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.stream_commands import Choice, Entry
from cardtoken.contract import DEAD_LETTERS, REPLY_PREFIX, Lane
from cardtoken.providers import PROVIDERS

if TYPE_CHECKING:
    from redis import Redis

    from cardtoken.message import Request

_LANES: Final = [str(lane) for lane in Lane]
_KIND: Final = ("provider", "account", "lane", "category", "code")
#: Entries that are looked at together, so that those of one message become one message again.
_WINDOW: Final = 5_000


def _read(redis: "Redis", start: str, end: str, count: int) -> list[Entry]:
    found: Any = redis.xrange(DEAD_LETTERS, start, end, count=count)
    return [
        Entry(name.decode(), {key.decode(): value.decode(errors="replace") for key, value in fields.items()})
        for name, fields in found
    ]


def _chosen(command: stream_commands.F) -> stream_commands.F:
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
    return stream_commands.ages(command)


@click.group()
def dead_letters() -> None:
    """Look at lookups that failed for a reason that somebody can act on; ask again, or put them away.

    \b
    cardtoken dead-letters list --provider opay --newer-than 2h
    cardtoken dead-letters show 1763700000000-0
    cardtoken dead-letters replay --provider opay --category unavailable --newer-than 2h
    cardtoken dead-letters discard --category rejected --older-than 7d
    """


@dead_letters.command("list")
@_chosen
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="How many; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.pass_obj
def list_(context: Context, /, limit: int, as_json: bool, **options: Any) -> Exit:
    """List dead letters, oldest first: id, time, lookup, and why it failed.

    \b
    cardtoken dead-letters list --category authentication
    cardtoken dead-letters list --limit 0 --json | jq -r .code | sort | uniq -c
    """
    return stream_commands.listed(
        context,
        Choice.of(options).entries(context.redis(), _read),
        row=lambda entry: (
            entry.id,
            *(entry[name] for name in ("failed_at", "lookup_id", *_KIND)),
            _message(entry),
        ),
        shown=lambda entry: Shown(
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

    found = next(Choice.of({"ids": (entry_id,)}).entries(context.redis(), _read), None)
    if found is None:
        click.echo(f"There is no dead letter {entry_id}: it was replayed, discarded, or is too old.", err=True)
        return Exit.NOT_FOUND
    told = _document(found, reveal=reveal)
    if as_json:
        context.say_json(told)
    elif context.on_a_terminal:
        context.console.print(table(told))
    else:
        for name, value in rows(told):
            click.echo(f"{name}: {value}")
    return Exit.DONE


@dead_letters.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@_chosen
@stream_commands.confirmation
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

    choice = Choice.of(options)
    stream_commands.scoped(choice, "replay")
    redis = context.redis()
    # What fails again comes after this one, and is not replayed again.
    until = stream_commands.last_id(redis, DEAD_LETTERS)
    one_off = 0

    def seen() -> Iterator[Entry]:
        nonlocal one_off
        for entry in choice.entries(redis, _read, until):
            one_off += _is_one_off(_parsed(entry["request"]))
            yield entry

    total = stream_commands.counted(context, seen(), _KIND, "to replay")
    if not total:
        return Exit.NOT_FOUND
    if one_off and reply_to is None:
        reply_to = _asked_for(one_off, dry_run=dry_run)
        if reply_to is None and not dry_run:
            click.echo("Nothing was changed.", err=True)
            return Exit.FAILED
    if not stream_commands.agreed("Replay them?", yes=yes, dry_run=dry_run):
        return Exit.DONE if dry_run else Exit.FAILED
    replayer = _Replayer(redis, checked_reply_to(reply_to) if reply_to else None, Lane(into) if into else None)
    entries = context.progress(choice.entries(redis, _read, until), total, "replaying")
    for window in stream_commands.batches(entries, _WINDOW):
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
@click.argument("ids", nargs=-1, metavar="[ID]…")
@_chosen
@stream_commands.confirmation
@click.pass_obj
def discard(context: Context, /, yes: bool, dry_run: bool, **options: Any) -> Exit:
    """Remove dead letters for good: shows how many of which kind, then asks whether to go on.

    \b
    cardtoken dead-letters discard 1763700000000-0
    cardtoken dead-letters discard --category rejected --older-than 7d
    """
    return stream_commands.discarded(context, Choice.of(options), _read, DEAD_LETTERS, _KIND, yes=yes, dry_run=dry_run)


def _asked_for(one_off: int, *, dry_run: bool) -> str | None:
    """The result queue that a person names for those whose own nothing reads; None where none is named."""
    import sys

    text = (
        f"{one_off:,} of them asked in a one-off reply queue, of a checkout or a bulk run, that nothing reads any more"
    )
    if dry_run:
        click.echo(f"{text}: --reply-to will be needed", err=True)
        return None
    if not sys.stdin.isatty():
        raise click.UsageError(f"{text}: name another with --reply-to")
    click.echo(f"{text}.", err=True)
    while True:
        answer: str = click.prompt(
            "Name of the result queue for these (empty: change nothing)", default="", show_default=False, err=True
        )
        answer = answer.strip()
        if answer.lower() in _NO:
            return None
        if why := _no_queue(answer):
            click.echo(why, err=True)
        else:
            return answer


#: Answers that are no name.
_NO: Final = {"", "n", "no", "q", "quit", "none"}
_YES: Final = {"y", "yes"}
#: The queue that a bulk run makes for itself.
_OF_BULK: Final = re.compile(r"bulk\.[0-9a-f]{16}")


def _no_queue(name: str) -> str | None:
    """Why nothing would read a queue of that name, or there cannot be one; None for a good name."""
    from cardtoken.errors import InvalidRequestError
    from cardtoken.message import checked_reply_to

    if name.lower() in _YES:
        return "The name of a result queue, please, such as checkout."
    try:
        checked_reply_to(name)
    except InvalidRequestError as error:
        return str(error)
    return f"{name} is a one-off queue too." if _is_one_off({"reply_to": name}) else None


class _Replayer:
    """Puts dead letters back on their queues, as messages of one task, provider and lane each."""

    def __init__(self, redis: "Redis", reply_to: str | None, into: Lane | None) -> None:
        self._redis = redis
        self._reply_to = reply_to
        self._into = into
        self._script = redis.register_script(files(__package__).joinpath("move.lua").read_text(encoding="utf-8"))
        self.replayed = 0
        #: Why some were left, and which.
        self.left: dict[str, list[str]] = defaultdict(list)

    def replay(self, entries: Sequence[Entry]) -> None:
        """Replay these; those of one message become one message again."""
        groups: dict[tuple[str, str, Lane], list[tuple[str, Request]]] = defaultdict(list)
        for entry in entries:
            prepared = self._prepared(entry)
            if prepared is not None:
                lane = self._into or Lane(entry["lane"])
                groups[entry["task_id"], prepared.provider, lane].append((entry.id, prepared))
        for (task_id, _, lane), letters in groups.items():
            self._send(task_id, lane, letters)

    def _prepared(self, entry: Entry) -> "Request | None":
        from cardtoken.errors import InvalidRequestError
        from cardtoken.message import prepared

        request = {
            name: value for name, value in _parsed(entry["request"]).items() if name not in {"deadline", "requested_at"}
        }
        request["lookup_id"] = entry["lookup_id"]
        if self._reply_to and _is_one_off(request):
            request["reply_to"] = self._reply_to
        try:
            made = prepared(request, datetime.now(UTC))
        except InvalidRequestError as error:
            self.left[str(error)].append(entry.id)
            return None
        if made.provider != entry["provider"] or entry["lane"] not in _LANES:
            self.left["its request is not one of its provider and lane"].append(entry.id)
            return None
        return made

    def _send(self, task_id: str, lane: Lane, letters: "list[tuple[str, Request]]") -> None:
        from cardtoken.message import Cutter

        cutter, waiting = Cutter(lane, replay_of=task_id), list(letters)
        messages = [message for _, request in letters if (message := cutter.add(request)) is not None]
        for message in [*messages, *cutter.rest()]:
            mine, waiting = waiting[: message.count], waiting[message.count :]
            ids = [name for name, _ in mine]
            gone: Any = self._script(keys=[DEAD_LETTERS, message.queue], args=[message.entry, *ids])
            if not gone:
                self.replayed += len(ids)
                continue
            missing = {each.decode() for each in gone}
            self.left["somebody else replayed or discarded it meanwhile"] += sorted(missing)
            self._send(task_id, lane, [letter for letter in mine if letter[0] not in missing])


def _message(entry: Entry) -> str:
    return str((_parsed(entry["result"]).get("error") or {}).get("message") or "")


def _is_one_off(request: dict[str, Any]) -> bool:
    name = str(request.get("reply_to", ""))
    return name.startswith(REPLY_PREFIX) or _OF_BULK.fullmatch(name) is not None


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _document(entry: Entry, *, reveal: bool) -> dict[str, Any]:
    from cardtoken.cli.masking import masked_request, masked_result

    told: dict[str, Any] = {"id": entry.id, **entry.fields}
    request, result = _parsed(entry["request"]), _parsed(entry["result"])
    told["request"] = request if reveal else masked_request(request)
    told["result"] = result if reveal else masked_result(result)
    return told
