"""``cardtoken status`` and ``cardtoken health``."""

import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from cardtoken.cli.context import Context
from cardtoken.cli.entries import Entry, Piece
from cardtoken.cli.exit_codes import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cardtoken.presence import WorkerReport
    from cardtoken.status import ServiceStatus

#: Seconds within which `health` ends, loading the program included: a container's health check has a limit of its own.
_HEALTH_TIMEOUT: Final = 8.0
#: The part of it that Redis may take.
_HEALTH_SHARE: Final = 0.5


#: Columns of a terminal from which on the lookups of each queue are shown beside its messages.
_WIDE: Final = 72


@click.command()
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds, with --watch.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for each look.")
@click.pass_obj
def status(context: Context, watch: bool, interval: float, as_json: bool) -> None:
    """Show what is going on, on one screen.

    Redis and its settings; workers with their queues; each queue with messages that wait, lookups in them, what is
    delayed and the age of its oldest message; messages in workers' hands; dead letters, quarantine; result queues with
    their consumers' lag. What needs attention comes last, with what to do.

    \b
    cardtoken status
    cardtoken status --watch
    cardtoken status --json | jq .attention
    """
    from cardtoken.status import look
    from cardtoken.waiting import WaitingLookups

    redis = context.redis()
    waiting = WaitingLookups(redis)
    if watch and context.on_a_terminal and not as_json:
        from rich.live import Live

        with Live(screen=True, console=context.console, auto_refresh=False) as live:
            while True:
                live.update(_screen(look(redis, waiting), context.console.width), refresh=True)
                time.sleep(interval)
    while True:
        found = look(redis, waiting)
        if as_json:
            context.say_json(found.document())
        elif context.on_a_terminal:
            context.console.print(_screen(found, context.console.width))
        else:
            for line in _plain(found):
                click.echo(line)
        if not watch:
            return
        time.sleep(interval)


def _plain(found: "ServiceStatus") -> list[str]:
    """A line for each thing, its name first."""
    server = found.server
    lines = [f"redis {server.version} memory {server.memory} append_only {server.append_only} policy {server.policy}"]
    lines += [f"worker {each.name} messages {each.messages} queues {','.join(each.queues)}" for each in found.workers]
    for queue in found.queues:
        oldest = "-" if queue.oldest is None else f"{queue.oldest:.0f}"
        lookups = _or_dash(queue.lookups)
        counts = (
            f"waiting {queue.waiting} lookups {lookups} delayed {queue.delayed} oldest {oldest} workers {queue.workers}"
        )
        lines.append(f"queue {queue.name} {counts}")
    lines += [f"claimed {found.claimed} overdue {found.overdue}"]
    lines += [f"dead-letters {found.dead_letters}", f"quarantine {found.quarantine}"]
    for each in found.result_queues:
        groups = [f"{group.name}: pending {group.pending} lag {_or_dash(group.lag)}" for group in each.groups]
        lines.append(f"results {each.name} kept {each.results} groups {'; '.join(groups) or '-'}")
    return [*lines, *(f"attention {sentence}" for sentence in found.attention)]


def _screen(found: "ServiceStatus", width: int) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    server = found.server
    limit = f" of {_bytes(server.memory_limit)}" if server.memory_limit else ""
    head = Text(
        f"{server.version} · {_bytes(server.memory)}{limit} · {server.clients} clients · "
        f"append-only {'on' if server.append_only else 'off'} · {server.policy} · {found.at[11:]}"
    )
    queues = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    queues.add_column("queue", style="cyan", overflow="fold")
    wide = width >= _WIDE
    for column in ("waiting", *(["lookups"] if wide else []), "delayed", "oldest", "workers"):
        queues.add_column(column, justify="right", no_wrap=True)
    for queue in found.queues:
        queues.add_row(
            queue.name,
            str(queue.waiting),
            *([_or_dash(queue.lookups)] if wide else []),
            str(queue.delayed),
            _age(queue.oldest),
            str(queue.workers or Text("0", "red")),
        )
    there = [_worker(worker) for worker in found.workers]
    there += [Entry([(worker.name, "cyan"), ("silent", "red")], [_short(worker.queues)]) for worker in found.silent]
    results = []
    for each in found.result_queues:
        groups = [
            f"{group.name}: {group.consumers} consumers, {group.pending} pending, lag {_or_dash(group.lag)}"
            for group in each.groups
        ]
        results.append(Entry([(each.name, "cyan"), f"{each.results} kept"], groups))
    ends = Text(
        f"In hand {found.claimed} ({found.overdue} overdue) · dead letters {found.dead_letters} · "
        f"quarantine {found.quarantine}"
    )
    parts: list[Any] = [head, Text(), Text("Queues", "bold"), queues, Text(), Text("Workers", "bold"), *there]
    parts += [Text(), Text("Result queues", "bold"), *results, Text(), ends]
    parts += [Text(f"! {sentence}", "yellow") for sentence in found.attention]
    return Group(*parts)


def _worker(worker: "WorkerReport") -> "Entry":
    since = f"since {worker.started_at[5:16].replace('T', ' ')}"
    head: list[Piece] = [(worker.name, "cyan"), f"{worker.messages} of {worker.threads} messages"]
    return Entry(head, [_short(worker.queues), worker.version], since)


def _short(queues: Iterable[str]) -> str:
    """The queues of a worker by provider, as in ``opay bulk interactive, afterpay bulk``."""
    lanes: dict[str, list[str]] = {}
    for queue in sorted(queues):
        provider, _, lane = queue.removeprefix("lookup.").partition(".")
        lanes.setdefault(provider, []).append(lane)
    return ", ".join(" ".join([provider, *own]).strip() for provider, own in lanes.items()) or "no queue"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size * 2:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(number: int) -> str:
    return f"{number / (1 << 20):.1f} MB" if number < 1 << 30 else f"{number / (1 << 30):.1f} GB"


@click.command()
@click.option("--host", default=None, help="Ask about the workers of that host  [default: this one]")
@click.option("--worker", "name", default=None, help="Ask about that worker alone, as in celery@shop-1.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.5),
    default=_HEALTH_TIMEOUT,
    show_default=True,
    help="Seconds after which it ends: fewer than the limit of the check.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def health(context: Context, host: str | None, name: str | None, timeout: float, as_json: bool) -> Exit:
    """Is this host's worker alive and consuming? For a container's health check.

    Exit status 0: there is one, it takes from its queues, its event loop turns and its calls make progress. 1: not so,
    and why; a worker that has reported nothing for 12 s counts as frozen. 5: Redis did not answer.

    It must not decide whether a worker is restarted: with Redis away it fails for all of them. The worker's own
    /livez is for that (HEALTH_PORT).

    \b
    HEALTHCHECK CMD cardtoken health
    cardtoken health --worker bulk@shop-1
    """
    from cardtoken.presence import presence

    allowed = min(_HEALTH_SHARE * timeout, context.left(timeout))
    redis = context.redis(socket_timeout=_HEALTH_SHARE * timeout)
    found = context.within(allowed, lambda: presence(redis))
    where = name or host or socket.gethostname()
    asked = [each for each in found.living if (each.name if name else each.host) == where]
    silent = [each for each in found.silent if (each.name if name else each.host) == where and each.is_recent]
    troubles = [f"{worker.name}: {worker.trouble}" for worker in asked if worker.trouble]
    for worker in silent:
        alone = [queue for queue in worker.queues if not any(queue in each.queues for each in found.living)]
        left = f"; no living worker for {', '.join(alone)}" if alone else ""
        troubles.append(f"{worker.name}: {worker.trouble}{left}")
    if not asked and not silent:
        troubles = [f"no worker {'of the name' if name else 'on host'} {where} has reported to Redis"]
    warnings = [f"{worker.name}: {worker.warning}" for worker in asked if worker.warning]
    if as_json:
        workers = [each.document() for each in asked] + [each.document() for each in silent]
        context.say_json({"healthy": not troubles, "workers": workers, "troubles": troubles, "warnings": warnings})
    else:
        for line in troubles or [f"{worker.name} consumes {', '.join(worker.queues)}" for worker in asked]:
            click.echo(line, err=bool(troubles))
        for line in warnings:
            click.echo(line, err=True)
    return Exit.FAILED if troubles else Exit.DONE
