"""The messages of a bulk run, which are the same whenever they are made."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import TYPE_CHECKING

from cardtoken.cli.bulk_plan import LINE, Plan
from cardtoken.cli.journal import Journal
from cardtoken.cli.references import Row, Source
from cardtoken.contract import MAX_REQUESTS, Lane

if TYPE_CHECKING:
    from cardtoken.message import Message, Request


class BulkMessages:
    """The messages of a file: of the same rows under the same task ids, whenever they are made."""

    def __init__(
        self,
        source: Source,
        plan: Plan,
        journal: Journal,
        *,
        lane: Lane,
        task_prefix: str,
        reply_to: str,
        deadline: float | None,
    ) -> None:
        self._source = source
        self._plan = plan
        self._journal = journal
        self._lane = lane
        self._task_prefix = task_prefix
        self._reply_to = reply_to
        #: Seconds.
        self._deadline = deadline

    def __iter__(self) -> "Iterator[Message]":
        """Return the messages of which a line has no result yet."""
        from cardtoken.message import Cutter

        skipped = {line for line, _ in self._plan.faults}
        before, again = self._journal.answered_before, self._journal.again
        rows = (row for row in self._source.rows() if row.line not in skipped and row.line not in before)
        prefix = f"{self._task_prefix}{f'again{again}.' if again else ''}"
        for chunk in count():
            some = list(islice(rows, MAX_REQUESTS))
            if not some:
                return
            if all(row.line in self._journal for row in some):
                continue
            names = (f"{prefix}{chunk}.{part}" for part in count())
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
        request = {**row.request, "lookup_id": row.request.get("lookup_id") or f"{LINE}{row.line}"}
        return prepared(request, now, reply_to=self._reply_to, deadline=deadline)
