"""``cardtoken bulk``: a file of references in, a file of records out, across interruptions."""

import contextlib
import hashlib
import time
from pathlib import Path

import click

from cardtoken.cli.context import Context
from cardtoken.cli.duration import duration
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.references import FIELDS, Source, UnreadableFileError, described
from cardtoken.contract import Lane


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Records: .jsonl, .ndjson, .json, .csv or .tsv.",
)
@click.option("--provider", type=click.Choice(list(FIELDS)), default=None, help="Whose references the file holds.")
@click.option("--column", default=None, metavar="NAME", help="The CSV's column that holds them, with --provider.")
@click.option("--account", default=None, help="Account of rows that name none  [default: default]")
@click.option("--lane", type=click.Choice(["interactive", "bulk"]), default="bulk", show_default=True)
@click.option("--deadline", type=duration, default=None, help="Give up on a lookup after: 90s, 15m, 2h.")
@click.option("--max-queue-length", type=click.IntRange(1), default=1000, show_default=True, metavar="MESSAGES",
              help="Wait while a queue has so many.")  # fmt: skip
@click.option("--reply-to", default=None, metavar="NAME", help="Result queue to use  [default: one of its own]")
@click.option("--skip-invalid", is_flag=True, help="Leave out rows that cannot be asked for.")
@click.option("--again", is_flag=True, help="Ask anew for what has no result and waits nowhere any more.")
@click.option("--reveal", is_flag=True, help="Write card tokens, their holders and metadata.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
@click.pass_obj
@described
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
    again: bool,
    reveal: bool,
    as_json: bool,
) -> Exit:
    """Look up every reference of FILE, and write a record for each to --out, in the same order.

    FILE is CSV with a column {columns} (and, as you like, lookup_id, account, deadline,
    metadata.NAME), JSON lines with the same names, or one reference a line with --provider. A record says in which
    line its reference was; card tokens and holders are masked unless --reveal.

    After Ctrl-C, a crash or a reboot the same command goes on where it was: what was asked is not asked again, what
    was answered is kept in OUT.partial. While Redis is away or refuses, it waits. Where results are gone, since they
    were not fetched in time, it ends with status 6 and lists their lines in OUT.missing; the same with --again asks for
    these anew.

    \b
    cardtoken bulk cards.csv --out cards.jsonl
    cardtoken bulk tokens.txt --provider opay --out records.csv --reveal
    cardtoken bulk export.csv --provider afterpay --column request_id --out records.jsonl

    Exit status: 0 every lookup is found or not found, 1 some failed, 6 some results are gone.
    """
    from cardtoken.cli import output
    from cardtoken.cli.bulk_plan import Plan, report_faults
    from cardtoken.cli.bulk_run import Run
    from cardtoken.cli.journal import Journal, JournalError
    from cardtoken.message import checked_reply_to

    source = Source(file, provider, column, account)
    try:
        output.check_format(out)
        with _doing(context, f"reading {file}"):
            plan = Plan.of(source)
    except (UnreadableFileError, output.OutputError) as error:
        raise click.UsageError(str(error)) from None
    report_faults(plan, skip_invalid=skip_invalid)
    if ignored := source.ignored():
        click.echo(f"Columns that are not sent: {', '.join(ignored)}", err=True)
    run = hashlib.sha256(f"{plan.digest}{time.time_ns()}".encode()).hexdigest()[:16]
    head: dict[str, object] = {"run": run, "input": plan.digest, "lane": lane, "reveal": reveal}
    head |= {"provider": provider, "column": column, "account": account}
    head["reply_to"] = None if reply_to is None else checked_reply_to(reply_to)
    redis = context.redis()
    with _doing(context, "connecting to Redis"):
        redis.ping()
    try:
        with contextlib.ExitStack() as stack:
            with _doing(context, f"reading {out}.partial"):
                journal = stack.enter_context(Journal(out, head))
            bulk_run = Run(
                context,
                redis,
                source,
                plan=plan,
                journal=journal,
                lane=Lane(lane),
                limit=max_queue_length,
                deadline=deadline,
                again=again,
            )
            return bulk_run.run(as_json=as_json)
    except JournalError as error:
        raise click.UsageError(str(error)) from None


def _doing(context: Context, what: str) -> contextlib.AbstractContextManager[object]:
    """Show on a terminal what is being done."""
    return context.errors.status(f"{what} …") if context.errors.is_terminal else contextlib.nullcontext()
