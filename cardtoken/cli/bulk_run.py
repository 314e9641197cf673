"""One bulk run: messages out, results in, whatever interrupts it, until every line has a result or cannot have one."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final

import click

from cardtoken.cli.bulk_plan import LINE, Plan
from cardtoken.cli.context import Context
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.journal import Journal
from cardtoken.cli.progress import Progress
from cardtoken.cli.references import Row, Source
from cardtoken.contract import MAX_REQUESTS, Lane, stream_name

if TYPE_CHECKING:
    from redis import Redis, RedisError

    from cardtoken.contract import LookupResult
    from cardtoken.message import Message, Request

#: Seconds for which Redis remembers what a run has pushed.
_REMEMBERED: Final = 30 * 86_400
#: Seconds without any result after which somebody should know why, and after which the same is said again.
_QUIET: Final = 15.0
_SAID_AGAIN: Final = 150.0
#: Seconds without any result after which it is asked, twice, whether anything of the run is left in Redis.
_SETTLED: Final = 1.5
#: Results that are read at a time where the whole queue is read once more.
_PAGE: Final = 500
#: Seconds between two tries while Redis is away or refuses.
_PAUSE: Final = 1.0


class Run:
    """A run, from its first message to the whole output; a thread pushes while the results are read."""

    def __init__(
        self,
        context: Context,
        redis: "Redis",
        source: Source,
        *,
        plan: Plan,
        journal: Journal,
        lane: Lane,
        limit: int,
        deadline: float | None,
        again: bool,
    ) -> None:
        self._context = context
        self._redis = redis
        self._source = source
        self._plan = plan
        self._journal = journal
        self._lane = lane
        self._limit = limit
        self._deadline = deadline
        self._may_ask_again = again
        run = journal.head["run"]
        self._own_queue = journal.head["reply_to"] is None
        self._reply_to = str(journal.head["reply_to"] or f"bulk.{run}")
        self._group = f"bulk-{run}"
        self._task_prefix = f"bulk.{run}:"
        self._pushed_key = f"lookup:bulk:{run}"
        self._queues = [f"lookup.{provider}.{lane}" for provider in sorted(plan.providers)]
        self._script = redis.register_script(files(__package__).joinpath("push_once.lua").read_text(encoding="utf-8"))
        #: Ends the pushing and the reading: all is read, or there is nothing to wait for, or something went wrong.
        self._stop = threading.Event()
        #: All is pushed, nothing of it is left in Redis, and no result comes.
        self._is_settled = False
        self._trouble: BaseException | None = None
        self._heard = time.monotonic()
        self._waiting = _Waiting(context)
        self._hint, self._hinted_at = "", float("-inf")

    def run(self, *, as_json: bool) -> Exit:
        """Ask, collect, write; raises what ended it, KeyboardInterrupt too, with everything kept."""
        began, before = time.monotonic(), len(self._journal)
        if self._journal.resumed:
            click.echo(f"Going on: {before:,} of {self._plan.total:,} are answered.", err=True)
        try:
            with self._waiting.for_the_client(), Progress(self._context, self._plan.total, before) as shown:
                complete = self._ask_and_collect(shown)
        except BaseException:
            self._tell_where_it_is()
            raise
        if not complete:
            return self._tell_what_is_missing()
        self._journal.finish()
        self._missing_file.unlink(missing_ok=True)
        self._tidy()
        return self._summary(time.monotonic() - began, len(self._journal) - before, as_json=as_json)

    def _ask_and_collect(self, shown: Progress) -> bool:
        """Whether every line has a result in the end."""
        while True:
            self._stop.clear()
            self._is_settled = False
            pusher = threading.Thread(target=self._push_all, args=(shown,), name="push", daemon=True)
            pusher.start()
            try:
                self._collect(shown)
            finally:
                self._stop.set()
                pusher.join()
                self._journal.sync()
            self._raise_trouble()
            if not self._is_complete() and self._is_settled:
                self._read_from_the_start(shown)
            if self._is_complete():
                return True
            if not self._may_ask_again:
                return False
            # Once, and not for ever: what is lost every time has a cause that somebody has to look at.
            self._may_ask_again = False
            self._journal.ask_again()
            left = self._plan.total - len(self._journal)
            self._context.errors.print(f"{left:,} have no result and wait nowhere any more: asking for them anew.")

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    def _is_complete(self) -> bool:
        return len(self._journal) >= self._plan.total

    # --- results

    def _collect(self, shown: Progress) -> None:
        """Read until every line has a result, or it is time to stop."""
        # It waits for as long as it takes: Ctrl-C ends it too.
        client = self._context.client(retry_for=math.inf)
        with client.results(
            self._reply_to,
            group=self._group,
            consumer="bulk",
            stop=self._stop,
            before_acknowledging=self._journal.sync,
        ) as found:
            while not self._is_complete():
                result = next(found, None)
                if result is None:
                    return
                self._keep(result, shown)

    def _keep(self, result: "LookupResult", shown: Progress) -> None:
        from cardtoken.cli.render import document

        line = self._plan.line(result.lookup_id) if result.task_id.startswith(self._task_prefix) else None
        if line is not None and self._journal.add(line, document(result, reveal=bool(self._journal.head["reveal"]))):
            self._heard = time.monotonic()
            shown.at(len(self._journal))

    def _read_from_the_start(self, shown: Progress) -> None:
        """Read the whole result queue once more: what a lost journal line stood for may have been acknowledged."""
        from cardtoken.errors import UnreadableResultError
        from cardtoken.stream_entries import read_result

        last = "-"
        while True:
            try:
                page: Any = self._redis.xrange(stream_name(self._reply_to), last, "+", count=_PAGE)
            except self._redis_error as error:
                self._wait_or_raise("reading", error)
                continue
            self._waiting.over("reading")
            for _, fields in page:
                with contextlib.suppress(UnreadableResultError):
                    self._keep(read_result(fields), shown)
            if len(page) < _PAGE:
                self._journal.sync()
                return
            last = f"({page[-1][0].decode()}"

    # --- messages

    def _push_all(self, shown: Progress) -> None:
        try:
            for message in self._messages():
                if not self._push(message):
                    return
            self._watch(shown)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._trouble = error
            self._stop.set()

    def _messages(self) -> "Iterator[Message]":
        """The messages of the file: of the same rows under the same task ids, whenever they are made."""
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

    def _push(self, message: "Message") -> bool:
        """Push a message once, when there is room; False when it is time to stop."""
        args: list[Any] = [message.task_id, message.entry, self._limit, _REMEMBERED]
        while not self._stop.is_set():
            try:
                pushed: Any = self._script(keys=[message.queue, self._pushed_key], args=args)
            except self._redis_error as error:  # the script does nothing a second time, so it may be asked again
                self._wait_or_raise("asking", error)
                continue
            self._waiting.over("asking")
            if pushed >= 0:
                return True
            self._say_if_quiet()
            self._stop.wait(0.1)
        return False

    # --- waiting

    def _watch(self, shown: Progress) -> None:
        """Wait for the end; set ``settled`` where nothing of the run is left anywhere and no result comes."""
        from cardtoken.cli.whereabouts import are_there_any

        self._heard = max(self._heard, time.monotonic())
        gone = 0
        while not self._stop.wait(_PAUSE):
            shown.quiet(len(self._journal))
            if time.monotonic() - self._heard < _SETTLED:
                gone = 0
                continue
            try:
                gone = 0 if are_there_any(self._redis, self._queues, self._task_prefix) else gone + 1
            except self._redis_error as error:
                gone = 0
                self._wait_or_raise("looking", error)
                continue
            self._waiting.over("looking")
            if gone > 1:
                self._is_settled = True
                self._stop.set()
                return
            self._say_if_quiet()

    @property
    def _redis_error(self) -> "type[RedisError]":
        from redis import RedisError

        return RedisError

    def _wait_or_raise(self, doing: str, error: "RedisError") -> None:
        """Wait a little where Redis is away or refuses for a reason that may pass; raise any other error."""
        from cardtoken.refusals import code_of, is_away, is_worth_waiting, text_of

        if not is_worth_waiting(error):
            raise error
        self._waiting.say(doing, _AWAY if is_away(error) else code_of(error), text_of(error) or type(error).__name__)
        self._stop.wait(_PAUSE)

    def _say_if_quiet(self) -> None:
        from cardtoken.cli.whereabouts import why_quiet

        now = time.monotonic()
        if now - self._heard < _QUIET or now - self._hinted_at < _QUIET:
            return
        try:
            why = why_quiet(self._redis, self._queues)
        except self._redis_error:
            return  # that is said elsewhere
        kind = why.partition(" ")[0]
        if kind != self._hint or now - self._hinted_at > _SAID_AGAIN:
            self._hint, self._hinted_at = kind, now
            self._context.errors.print(f"No result for {now - self._heard:.0f} s. {why}", markup=False)

    # --- the end

    def _tidy(self) -> None:
        """Nobody needs the queue any more, nor who was pushed; what cannot be removed now expires."""
        stream = stream_name(self._reply_to)
        with contextlib.suppress(self._redis_error):
            self._redis.unlink(self._pushed_key)
            if self._own_queue:
                self._redis.unlink(stream)
            else:
                self._redis.xgroup_destroy(stream, self._group)

    def _tell_where_it_is(self) -> None:
        done, total = len(self._journal), self._plan.total
        click.echo(f"{done:,} of {total:,} are answered; the same command goes on.", err=True)

    @property
    def _missing_file(self) -> Any:
        path = self._journal.path
        return path.with_name(f"{path.name.removesuffix('.partial')}.missing")

    def _tell_what_is_missing(self) -> Exit:
        skipped = {line for line, _ in self._plan.faults}
        lines = (row.line for row in self._source.rows() if row.line not in skipped)
        missing = [line for line in lines if line not in self._journal]
        self._missing_file.write_text("".join(f"{line}\n" for line in missing), encoding="utf-8")
        click.echo(
            f"{len(missing):,} of {self._plan.total:,} have no result, and nothing of them waits any more: the results "
            "were kept for RESULT_RETENTION and no longer, or trimmed, or deleted, or went to another queue (where "
            f"workers have RESULT_QUEUES, name one with --reply-to). Their lines are in {self._missing_file}. The same "
            f"command with --again asks for them anew; what is answered is kept in {self._journal.path}.",
            err=True,
        )
        return Exit.MISSING

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


#: The cause where there is no answer at all.
_AWAY: Final = "away"


class _Waiting:
    """Says once that Redis is waited for, and why, whichever calls meet the trouble, and once that it is over."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        #: What has met trouble and not succeeded since, and the causes that were said meanwhile.
        self._doing: set[str] = set()
        self._causes: set[str] = set()

    def say(self, doing: str, cause: str, why: str) -> None:
        """What is done meets trouble. A connection that is cut is often followed by what says more."""
        with self._lock:
            is_new = cause not in self._causes
            self._doing.add(doing)
            self._causes.add(cause)
        if is_new:
            self._context.errors.print(
                f"Waiting for Redis: {why}. It goes on by itself; Ctrl-C ends it, and the same command goes on later.",
                markup=False,
            )

    def over(self, doing: str) -> None:
        """What is done succeeds again."""
        if doing not in self._doing:
            return
        with self._lock:
            self._doing.discard(doing)
            is_last = not self._doing
            if is_last:
                self._causes.clear()
        if is_last:
            self._context.errors.print("Redis answers again.")

    @contextlib.contextmanager
    def for_the_client(self) -> Iterator[None]:
        """Take what the client logs of its waiting, which would spoil the bar."""
        logger, handler = logging.getLogger("cardtoken.consumer"), _Handler(self)
        propagates, level = logger.propagate, logger.level
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagates
            logger.setLevel(level)


class _Handler(logging.Handler):
    def __init__(self, waiting: _Waiting) -> None:
        super().__init__(logging.INFO)
        self._waiting = waiting

    def emit(self, record: logging.LogRecord) -> None:
        trouble = next((each for each in record.args or () if isinstance(each, Exception)), None)
        if trouble is not None:
            self._waiting.say("reading", getattr(trouble, "code", _AWAY), str(trouble))
        elif record.levelno == logging.INFO:
            self._waiting.over("reading")
