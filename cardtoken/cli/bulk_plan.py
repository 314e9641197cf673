"""What a look through the whole file shows before anything is asked for."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import click

from cardtoken.cli.references import Row, Source

_FAULTS_SHOWN: Final = 10
#: What a lookup id begins with where the file gives none; the line follows.
LINE: Final = "line-"


@dataclass(slots=True)
class Plan:
    """What a look through the whole file has shown."""

    digest: str
    total: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    #: Lookup ids that the file gives itself, and in which lines.
    lines: dict[str, int] = field(default_factory=dict)
    #: Whose references they are.
    providers: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, source: Source) -> "Plan":
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
            request = prepared(row.request, now)
        except InvalidRequestError as error:
            return str(error)
        lookup_id = request.lookup_id
        self.providers.add(request.provider)
        if lookup_id is None:
            return None
        if lookup_id.startswith(LINE) or lookup_id in self.lines:
            return f"lookup_id: must not begin with {LINE}, nor be used twice"
        self.lines[lookup_id] = row.line
        return None

    def line(self, lookup_id: str) -> int | None:
        """The line that a result answers."""
        number = lookup_id.removeprefix(LINE)
        if number != lookup_id:
            return int(number) if number.isdecimal() else None
        return self.lines.get(lookup_id)


def report_faults(plan: Plan, *, skip_invalid: bool) -> None:
    """Show the first faults; raise UsageError where there are some that are not to be skipped, or nothing is left."""
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
