"""``cardtoken bulk``: a file of references in, a file of records out, whatever interrupts it."""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from cardtoken.cli.context import Context
from cardtoken.cli.exits import Exit
from cardtoken.cli.kept import age
from cardtoken.cli.references import FIELDS, Row, Source, UnreadableFileError
from cardtoken.contract import MAX_REQUESTS, Lane

if TYPE_CHECKING:
    from redis import Redis

    from cardtoken.cli.journal import Journal
    from cardtoken.message import Message, Request

#: Seconds for which Redis remembers what a run has pushed.
_REMEMBERED: Final = 30 * 86_400
#: Seconds without any result after which somebody should know where to look.
_QUIET: Final = 15.0
_FAULTS_SHOWN: Final = 10


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Records: .jsonl or .csv.")
@click.option("--provider", type=click.Choice(list(FIELDS)), default=None, help="Whose references the file holds.")
@click.option("--column", default=None, metavar="NAME", help="The CSV's column that holds them, with --provider.")
@click.option("--account", default=None, help="Account of rows that name none  [default: default]")
@click.option("--lane", type=click.Choice(["interactive", "bulk"]), default="bulk", show_default=True)
@click.option("--deadline", type=age, metavar="AGE", default=None, help="Give up on a lookup after: 90s, 15m, 2h.")
@click.option("--max-queue-length", type=click.IntRange(1), default=1000, show_default=True, metavar="MESSAGES",
              help="Wait while a queue has so many.")  # fmt: skip
@click.option("--reply-to", default=None, metavar="NAME", help="Result queue to use  [default: one of its own]")
@click.option("--skip-invalid", is_flag=True, help="Leave out rows that cannot be asked for.")
@click.option("--reveal", is_flag=True, help="Write card tokens, their holders and metadata.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
@click.pass_obj
def bulk(
    context: Context,
    /,
    *,
    file: Path,
    out: Path,
    provider: str | None,
    column: str | None,
    account: str | None,
    lane: str,
    deadline: float | None,
    max_queue_length: int,
    reply_to: str | None,
    skip_invalid: bool,
    reveal: bool,
    as_json: bool,
) -> Exit:
    """Look up every reference of FILE, and write a record for each to --out, in the same order.

    FILE is CSV with a column opay_token or original_request_id (and, as you like, lookup_id, account, deadline,
    metadata.NAME), JSON lines with the same names, or one reference a line with --provider. A record says in which
    line its reference was; card tokens and holders are masked unless --reveal.

    After Ctrl-C, a crash or a reboot the same command goes on where it was: what was asked is not asked again, what
    was answered is kept in OUT.partial.

    \b
    cardtoken bulk cards.csv --out cards.jsonl
    cardtoken bulk tokens.txt --provider opay --out records.csv --reveal
    cardtoken bulk export.csv --provider afterpay --column request_id --out records.jsonl

    Exit status: 0 every lookup is found or not found, 1 some failed.
    """
    from cardtoken.cli.journal import Journal, JournalError
    from cardtoken.message import checked_reply_to

    source = Source(file, provider, column, account)
    try:
        plan = _Plan.of(source)
    except UnreadableFileError as error:
        raise click.UsageError(str(error)) from None
    _tell_faults(plan, skip_invalid=skip_invalid)
    if ignored := source.ignored():
        click.echo(f"Columns that are not sent: {', '.join(ignored)}", err=True)
    run = hashlib.sha256(f"{plan.digest}{time.time_ns()}".encode()).hexdigest()[:16]
    head: dict[str, object] = {"run": run, "input": plan.digest, "lane": lane, "reveal": reveal}
    head |= {"provider": provider, "column": column, "account": account}
    head["reply_to"] = None if reply_to is None else checked_reply_to(reply_to)
    redis = context.redis()
    redis.ping()
    try:
        with Journal(out, head) as journal:
            bulk_run = _Run(
                context,
                redis,
                source,
                plan=plan,
                journal=journal,
                lane=Lane(lane),
                limit=max_queue_length,
                deadline=deadline,
            )
            return bulk_run.run(as_json=as_json)
    except JournalError as error:
        raise click.UsageError(str(error)) from None


@dataclass(slots=True)
class _Plan:
    """What a look through the whole file has shown."""

    digest: str
    total: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    #: Lookup ids that the file gives itself, and in which lines.
    lines: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source) -> "_Plan":
        with source.path.open("rb") as file:
            plan = cls(hashlib.file_digest(file, "sha256").hexdigest())
        now = datetime.now(UTC)
        for row in source.rows():
            fault = row.fault or plan._fault(row, now)
            if fault:
                plan.faults.append((row.line, fault))
            else:
                plan.total += 1
        return plan

    def _fault(self, row: Row, now: datetime) -> str | None:
        from cardtoken.errors import InvalidRequestError
        from cardtoken.message import prepared

        if row.request.get("reply_to") is not None:
            return "reply_to: the results come here"
        try:
            lookup_id = prepared(row.request, now).lookup_id
        except InvalidRequestError as error:
            return str(error)
        if lookup_id is None:
            return None
        if lookup_id.startswith(_LINE) or lookup_id in self.lines:
            return f"lookup_id: must not begin with {_LINE}, nor be used twice"
        self.lines[lookup_id] = row.line
        return None

    def line(self, lookup_id: str) -> int | None:
        """The line that a result answers."""
        if lookup_id.startswith(_LINE):
            return int(lookup_id.removeprefix(_LINE))
        return self.lines.get(lookup_id)


_LINE: Final = "line-"


def _tell_faults(plan: _Plan, *, skip_invalid: bool) -> None:
    for line, fault in plan.faults[:_FAULTS_SHOWN]:
        click.echo(f"line {line}: {fault}", err=True)
    if len(plan.faults) > _FAULTS_SHOWN:
        click.echo(f"and {len(plan.faults) - _FAULTS_SHOWN:,} more", err=True)
    if plan.faults and not skip_invalid:
        raise click.UsageError(
            f"{len(plan.faults):,} rows cannot be asked for, and nothing was: correct them, or say --skip-invalid"
        )
    if not plan.total:
        raise click.UsageError("there is nothing to ask for")


class _Run:
    """One run, from its first message to the whole output; a thread pushes while the results are read."""

    def __init__(
        self,
        context: Context,
        redis: "Redis",
        source: Source,
        *,
        plan: _Plan,
        journal: "Journal",
        lane: Lane,
        limit: int,
        deadline: float | None,
    ) -> None:
        self._context = context
        self._redis = redis
        self._source = source
        self._plan = plan
        self._journal = journal
        self._lane = lane
        self._limit = limit
        self._deadline = deadline
        run = journal.head["run"]
        self._own_queue = journal.head["reply_to"] is None
        self._reply_to = str(journal.head["reply_to"] or f"bulk.{run}")
        self._group = f"bulk-{run}"
        self._task_prefix = f"bulk.{run}:"
        self._pushed_key = f"lookup:bulk:{run}"
        self._script = redis.register_script(files(__package__).joinpath("push_once.lua").read_text())
        self._stop = threading.Event()
        self._trouble: BaseException | None = None
        self._heard = time.monotonic()

    def run(self, *, as_json: bool) -> Exit:
        """Ask, collect, write; raises what ended it, KeyboardInterrupt too, with everything kept."""
        began, before = time.monotonic(), len(self._journal)
        if self._journal.resumed:
            click.echo(f"Going on: {before:,} of {self._plan.total:,} are answered.", err=True)
        pusher = threading.Thread(target=self._push_all, name="push", daemon=True)
        try:
            with self._shown() as shown:
                pusher.start()
                self._collect(shown)
        except KeyboardInterrupt:
            self._tell_where_it_is()
            raise
        finally:
            self._stop.set()
            pusher.join()
        if self._trouble is not None:
            self._tell_where_it_is()
            raise self._trouble
        self._journal.finish()
        self._tidy()
        return self._summary(time.monotonic() - began, len(self._journal) - before, as_json=as_json)

    def _collect(self, shown: "_Shown") -> None:
        from cardtoken.cli.showing import document

        reveal = bool(self._journal.head["reveal"])
        client = self._context.client()
        with client.results(self._reply_to, group=self._group, consumer="bulk", stop=self._stop) as found:
            while len(self._journal) < self._plan.total:
                result = next(found, None)
                if result is None:
                    return
                line = self._plan.line(result.lookup_id) if result.task_id.startswith(self._task_prefix) else None
                if line is not None:
                    self._journal.add(line, document(result, reveal=reveal))
                    self._heard = time.monotonic()
                    shown.at(len(self._journal))

    def _push_all(self) -> None:
        try:
            for message in self._messages():
                if not self._push(message):
                    return
            while not self._stop.wait(1):
                self._say_if_quiet()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._trouble = error
            self._stop.set()

    def _messages(self) -> "Iterator[Message]":
        """The messages of the file: of the same rows under the same task ids, whenever they are made."""
        from itertools import count

        from cardtoken.message import Cutter

        skipped = {line for line, _ in self._plan.faults}
        rows = (row for row in self._source.rows() if row.line not in skipped)
        for chunk in count():
            some = list(islice(rows, MAX_REQUESTS))
            if not some:
                return
            if all(row.line in self._journal for row in some):
                continue
            names = (f"{self._task_prefix}{chunk}.{part}" for part in count())
            cutter = Cutter(self._lane, new_id=names.__next__)
            for row in some:
                if (message := cutter.add(self._request(row))) is not None:
                    yield message
            yield from cutter.rest()

    def _request(self, row: Row) -> "Request":
        from cardtoken.message import prepared

        now = datetime.now(UTC)
        # With its fraction, so that a message is as long whenever it is made, and cut at the same place.
        now = now.replace(microsecond=now.microsecond or 1)
        deadline = None if self._deadline is None else now + timedelta(seconds=self._deadline)
        request = {**row.request, "lookup_id": row.request.get("lookup_id") or f"{_LINE}{row.line}"}
        return prepared(request, now, reply_to=self._reply_to, deadline=deadline)

    def _push(self, message: "Message") -> bool:
        """Push a message once, when there is room; False when it is time to stop."""
        from redis import ConnectionError as Lost
        from redis import TimeoutError as Late

        args: list[Any] = [message.task_id, message.entry, self._limit, _REMEMBERED]
        while not self._stop.is_set():
            try:
                if self._script(keys=[message.queue, self._pushed_key], args=args) >= 0:
                    return True
            except (Lost, Late):  # the script does nothing a second time, so it may be asked again
                self._stop.wait(1)
            self._say_if_quiet()
            self._stop.wait(0.1)
        return False

    def _say_if_quiet(self) -> None:
        if time.monotonic() - self._heard > _QUIET:
            self._heard = time.monotonic() + 10 * _QUIET
            self._context.errors.print(
                f"No result for {_QUIET:g} s; `cardtoken status` shows whether a worker consumes the queues. "
                "Where workers have RESULT_QUEUES, name one of these with --reply-to."
            )

    def _tidy(self) -> None:
        """Nobody needs the queue any more, nor who was pushed; what cannot be removed now expires."""
        from redis import RedisError

        from cardtoken.contract import stream_name

        stream = stream_name(self._reply_to)
        try:
            self._redis.unlink(self._pushed_key)
            if self._own_queue:
                self._redis.unlink(stream)
            else:
                self._redis.xgroup_destroy(stream, self._group)
        except RedisError:
            pass

    def _tell_where_it_is(self) -> None:
        done, total = len(self._journal), self._plan.total
        click.echo(f"{done:,} of {total:,} are answered; the same command goes on.", err=True)

    def _summary(self, seconds: float, answered: int, *, as_json: bool) -> Exit:
        counts = sorted(self._journal.counts.items(), key=lambda each: (-each[1], each[0]))
        if as_json:
            statuses = [{"status": status, "category": kind or None, "count": n} for (status, kind), n in counts]
            told = {"total": self._plan.total, "skipped": len(self._plan.faults), "results": statuses}
            self._context.say_json({**told, "seconds": round(seconds, 3), "answered_now": answered})
        else:
            for (status, kind), number in counts:
                click.echo(f"{number:>9,}  {status}{f' · {kind}' * bool(kind)}")
            if self._plan.faults:
                click.echo(f"{len(self._plan.faults):>9,}  skipped")
            click.echo(f"{answered:,} in {seconds:.1f} s, {answered / max(seconds, 0.001):,.0f} a second", err=True)
        return Exit.FAILED if any(status == "failed" for (status, _), _ in counts) else Exit.DONE

    def _shown(self) -> "_Shown":
        return _Shown(self._context, self._plan.total, len(self._journal))


class _Shown:
    """How far it is: a bar on a terminal, a line every few seconds elsewhere."""

    _PAUSE: Final = 5.0

    def __init__(self, context: Context, total: int, done: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = context.errors
        self._on_a_terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("looking up"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not self._on_a_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done, rate="")
        self._total = total
        self._began, self._first = time.monotonic(), done
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def at(self, done: int) -> None:
        """So many are answered."""
        now = time.monotonic()
        rate = (done - self._first) / max(now - self._began, 0.001)
        if self._on_a_terminal:
            self._bar.update(self._task, completed=done, rate=f"{rate:,.0f}/s")
        elif now - self._told > self._PAUSE:
            self._told = now
            left = (self._total - done) / max(rate, 0.001)
            click.echo(f"{done:,} of {self._total:,}, {rate:,.0f} a second, {left:,.0f} s left", err=True)
