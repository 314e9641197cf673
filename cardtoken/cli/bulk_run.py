"""One bulk run: messages out, results in, until every line has a result or cannot have one, across interruptions."""

import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from cardtoken import scripts
from cardtoken.cli.bulk_messages import BulkMessages
from cardtoken.cli.bulk_plan import Plan
from cardtoken.cli.bulk_report import BulkReport
from cardtoken.cli.context import Context
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.journal import Journal
from cardtoken.cli.progress import BulkProgress
from cardtoken.cli.redis_wait import RedisWait
from cardtoken.cli.references import Source
from cardtoken.cli.silence import Silence
from cardtoken.contract import Lane
from cardtoken.keys import bulk_pushed, queue_name, stream_name

if TYPE_CHECKING:
    from redis import Redis, RedisError

    from cardtoken.contract import LookupResult
    from cardtoken.message import Message

#: Seconds for which Redis remembers what a run has pushed.
_REMEMBERED: Final = 30 * 86_400
#: Seconds without any result after which it is asked, twice, whether anything of the run is left in Redis.
_SETTLED: Final = 1.5
#: Results that are read at a time where the whole queue is read once more.
_PAGE: Final = 500
#: Seconds between two looks for what is left of the run.
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
        self._plan = plan
        self._journal = journal
        self._limit = limit
        self._may_ask_again = again
        run = journal.head["run"]
        self._own_queue = journal.head["reply_to"] is None
        self._reply_to = str(journal.head["reply_to"] or f"bulk.{run}")
        self._group = f"bulk-{run}"
        self._task_prefix = f"bulk.{run}:"
        self._pushed_key = bulk_pushed(run)
        self._queues = [queue_name(provider, lane) for provider in sorted(plan.providers)]
        self._script = redis.register_script(scripts.source(__package__, "push_once"))
        #: Ends the pushing and the reading: all is read, or there is nothing to wait for, or something went wrong.
        self._stop = threading.Event()
        #: All is pushed, nothing of it is left in Redis, and no result comes.
        self._is_settled = False
        self._trouble: BaseException | None = None
        self._waiting = RedisWait(context, self._stop)
        self._silence = Silence(context, redis, self._queues)
        self._report = BulkReport(context, source, plan, journal)
        self._messages = BulkMessages(
            source,
            plan,
            journal,
            lane=lane,
            task_prefix=self._task_prefix,
            reply_to=self._reply_to,
            deadline=deadline,
        )

    def run(self, *, as_json: bool) -> Exit:
        """Ask, collect, write; raises what ended it, KeyboardInterrupt too, with everything kept."""
        began, before = time.monotonic(), len(self._journal)
        if self._journal.resumed:
            self._report.resumed()
        try:
            with self._waiting.for_the_client(), BulkProgress(self._context, self._plan.total, before) as shown:
                complete = self._ask_and_collect(shown)
        except BaseException:
            self._report.interrupted()
            raise
        if not complete:
            return self._report.missing()
        self._journal.finish()
        self._report.missing_file.unlink(missing_ok=True)
        self._tidy()
        return self._report.summary(time.monotonic() - began, len(self._journal) - before, as_json=as_json)

    def _ask_and_collect(self, shown: BulkProgress) -> bool:
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
            # Once, and not for ever: results that are lost every time have a cause that the operator has to find.
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

    def _collect(self, shown: BulkProgress) -> None:
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

    def _keep(self, result: "LookupResult", shown: BulkProgress) -> None:
        from cardtoken.cli.render import document

        line = self._plan.line(result.lookup_id) if result.task_id.startswith(self._task_prefix) else None
        if line is not None and self._journal.add(line, document(result, reveal=bool(self._journal.head["reveal"]))):
            self._silence.end()
            shown.at(len(self._journal))

    def _read_from_the_start(self, shown: BulkProgress) -> None:
        """Read the whole result queue once more: what a lost journal line stood for may have been acknowledged."""
        from cardtoken.errors import UnreadableResultError
        from cardtoken.stream_entries import read_result

        last = "-"
        while True:
            try:
                page: Any = self._redis.xrange(stream_name(self._reply_to), last, "+", count=_PAGE)
            except self._redis_error as error:
                self._waiting.wait_or_raise("reading", error)
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

    def _push_all(self, shown: BulkProgress) -> None:
        try:
            for message in self._messages:
                if not self._push(message):
                    return
            self._watch(shown)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._trouble = error
            self._stop.set()

    def _push(self, message: "Message") -> bool:
        """Push a message once, when there is room; False when it is time to stop."""
        args: list[Any] = [message.task_id, message.entry, self._limit, _REMEMBERED]
        while not self._stop.is_set():
            try:
                pushed: Any = self._script(keys=[message.queue, self._pushed_key], args=args)
            except self._redis_error as error:  # the script does nothing a second time, so it may be asked again
                self._waiting.wait_or_raise("asking", error)
                continue
            self._waiting.over("asking")
            if pushed >= 0:
                return True
            self._silence.say_why()
            self._stop.wait(0.1)
        return False

    # --- waiting

    def _watch(self, shown: BulkProgress) -> None:
        """Wait for the end; set ``settled`` where nothing of the run is left anywhere and no result comes."""
        from cardtoken.cli.whereabouts import are_there_any

        self._silence.end()
        gone = 0
        while not self._stop.wait(_PAUSE):
            shown.quiet(len(self._journal))
            if self._silence.seconds < _SETTLED:
                gone = 0
                continue
            try:
                gone = 0 if are_there_any(self._redis, self._queues, self._task_prefix) else gone + 1
            except self._redis_error as error:
                gone = 0
                self._waiting.wait_or_raise("looking", error)
                continue
            self._waiting.over("looking")
            if gone > 1:
                self._is_settled = True
                self._stop.set()
                return
            self._silence.say_why()

    @property
    def _redis_error(self) -> "type[RedisError]":
        from redis import RedisError

        return RedisError

    # --- the end

    def _tidy(self) -> None:
        """Remove the run's queue, or its group, and the ids that it pushed; what cannot be removed now expires."""
        stream = stream_name(self._reply_to)
        with contextlib.suppress(self._redis_error):
            self._redis.unlink(self._pushed_key)
            if self._own_queue:
                self._redis.unlink(stream)
            else:
                self._redis.xgroup_destroy(stream, self._group)
