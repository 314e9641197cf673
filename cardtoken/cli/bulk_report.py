"""What a bulk run says at its end."""

from pathlib import Path

import click

from cardtoken.cli.bulk_plan import Plan
from cardtoken.cli.context import Context
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.journal import Journal
from cardtoken.cli.references import Source


class BulkReport:
    """Says how far a run is, what is missing, and how its lookups ended."""

    def __init__(self, context: Context, source: Source, plan: Plan, journal: Journal) -> None:
        self._context = context
        self._source = source
        self._plan = plan
        self._journal = journal

    def resumed(self) -> None:
        """Say from where an interrupted run goes on."""
        click.echo(f"Going on: {len(self._journal):,} of {self._plan.total:,} are answered.", err=True)

    def interrupted(self) -> None:
        """Say how far an interrupted run is."""
        done, total = len(self._journal), self._plan.total
        click.echo(f"{done:,} of {total:,} are answered; the same command goes on.", err=True)

    @property
    def missing_file(self) -> Path:
        """The file that lists the lines without a result."""
        path = self._journal.path
        return path.with_name(f"{path.name.removesuffix('.partial')}.missing")

    def missing(self) -> Exit:
        """Write the lines without a result to ``OUT.missing``, and say so."""
        skipped = {line for line, _ in self._plan.faults}
        lines = (row.line for row in self._source.rows() if row.line not in skipped)
        missing = [line for line in lines if line not in self._journal]
        self.missing_file.write_text("".join(f"{line}\n" for line in missing), encoding="utf-8")
        click.echo(
            f"{len(missing):,} of {self._plan.total:,} have no result, and nothing of them waits any more: the results "
            "were kept for RESULT_RETENTION and no longer, or trimmed, or deleted, or went to another queue (where "
            f"workers have RESULT_QUEUES, name one with --reply-to). Their lines are in {self.missing_file}. The same "
            f"command with --again asks for them anew; what is answered is kept in {self._journal.path}.",
            err=True,
        )
        return Exit.MISSING

    def summary(self, seconds: float, answered: int, *, as_json: bool) -> Exit:
        """Say how many lookups ended in which way."""
        counts = sorted(self._journal.counts.items(), key=lambda each: (-each[1], each[0]))
        if as_json:
            statuses = [{"status": status, "category": kind or None, "count": n} for (status, kind), n in counts]
            document = {"total": self._plan.total, "skipped": len(self._plan.faults), "results": statuses}
            self._context.say_json({**document, "seconds": round(seconds, 3), "answered_now": answered})
        else:
            for (status, kind), number in counts:
                click.echo(f"{number:>9,}  {status}{f' · {kind}' * bool(kind)}")
            if self._plan.faults:
                click.echo(f"{len(self._plan.faults):>9,}  skipped")
            click.echo(f"{answered:,} in {seconds:.1f} s, {answered / max(seconds, 0.001):,.0f} a second", err=True)
        return Exit.FAILED if any(status == "failed" for (status, _), _ in counts) else Exit.DONE
