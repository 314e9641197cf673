"""``make demo``: the main job on this machine alone, from a message in one queue to a record in another."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cardtoken.providers import PROVIDERS
from sandbox.environment import ROOT, demo_environment
from sandbox.group import Processes, signals_as_ctrl_c
from sandbox.ports import Ports
from sandbox.processes import ChildEndedError, start, wait_for_line
from sandbox.redis_server import RedisServer, ServerError

RESULTS, DEAD_LETTERS = "token-records:demo", "lookup:dead-letters"
#: Seconds after which a lookup that has no result is a failure of the demo.
PATIENCE = 40


@dataclass(frozen=True)
class Example:
    """One lookup, and how it has to end for the demo to have shown what it says."""

    about: str
    provider: str
    reference: str
    ends: str
    #: Calls that it takes; the refusal of a shared access token may cost a neighbour one more.
    attempts: int = 1

    @property
    def request(self) -> dict[str, Any]:
        """The element of ``requests``, as any producer would write it."""
        field = PROVIDERS[self.provider].reference_field
        return {field: self.reference, "reply_to": "demo", "lookup_id": self.about, "metadata": {"shop": "demo"}}


EXAMPLES = (
    Example("opay-page-sample", "opay", "OPAY_TOKEN_bf8593c1693546ea83743e4d433c5bf5", "found"),
    Example("afterpay-page-sample", "afterpay", "8456732415666565656565656565656", "found"),
    Example("opay-09-twice", "opay", "OPAY_TOKEN_timeout-2", "found", 3),
    Example("opay-90-once", "opay", "OPAY_TOKEN_unavailable-1", "found", 2),
    Example("afterpay-503-once", "afterpay", "unavailable-1", "found", 2),
    Example("opay-unknown-token", "opay", "OPAY_TOKEN_not-found", "not_found"),
    Example("afterpay-401-once", "afterpay", "unauthorized-1", "found", 2),
    Example("opay-another-card", "opay", "OPAY_TOKEN_wrong-token", "failed"),
    Example("opay-90-for-ever", "opay", "OPAY_TOKEN_unavailable-always", "failed", 4),
)


class Demo:
    """The processes of the demo, and what it prints."""

    def __init__(self, console: Console, ports: Ports) -> None:
        self._console = console
        self._ports = ports

    def run(self) -> int:
        """Show it; return the exit status."""
        begun = time.monotonic()
        say = self._console.print
        for line in self._ports.taken[:2]:
            say(line)
        with RedisServer(port=self._ports.redis) as server, tempfile.TemporaryDirectory() as folder:
            redis: Redis = Redis.from_url(server.url)
            version: Any = redis.info("server")
            name = f"{version.get('server_name', 'redis')} {version.get('valkey_version', version['redis_version'])}"
            say(f"[bold]Redis[/]      {name} at {server.url}")
            command = [sys.executable, "-m", "simulator", "--port", str(self._ports.simulator)]
            simulator = start(command, name="providers", cwd=ROOT)
            try:
                url = wait_for_line(simulator, r"listening on (\S+)", 20).group(1)
                say(f"[bold]Providers[/]  OPay and Afterpay PayNow, simulated, at {url}")
                say("[bold]Worker[/]     celery -A tasks worker")
                with Processes(width=6) as processes:
                    command = [sys.executable, "-m", "celery", "-q", "-A", "tasks", "worker", "-l", "INFO"]
                    variables = demo_environment(server.url, url, folder)
                    worker = processes.start("worker", command, env=variables, cwd=Path(folder))
                    wait_for_line(worker, r" ready\.", 60)
                    say(f"[bold]Sent[/]       {len(EXAMPLES)} lookups, in one message for each provider")
                    send(server.url)
                    results = wait(redis)
            finally:
                simulator.stop()
            dead = dead_letters(redis)
            wrong = [*differences(results), *leftovers(redis, dead)]
        self._show(results, dead)
        for line in wrong:
            say(f"[red]{line}[/]")
        say(f"Done in {time.monotonic() - begun:.1f} s. Next: `make up`, to try it yourself; README.md.")
        return 1 if wrong else 0

    def _show(self, results: Mapping[str, dict[str, Any]], dead: Sequence[str]) -> None:
        first = EXAMPLES[0].about
        self._console.print(f"\n[bold]A record[/], from the stream {RESULTS}, shortened")
        self._console.print(shortened(results.get(first)), highlight=False, markup=False)
        title = f"\n{len(results)} records; {len(dead)} that failed are dead letters too ({DEAD_LETTERS})"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("lookup", "status", "brand", "last4", "tries", "why"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "lookup")
        for example in EXAMPLES:
            if (result := results.get(example.about)) is not None:
                token, error = result["token"] or {}, result["error"] or {}
                why = [str(error[key]) for key in ("category", "code") if error.get(key)]
                status = {"found": "green", "failed": "red"}.get(result["status"], "yellow")
                cells = (token.get("brand"), token.get("last4"), str(result["attempts"]), " ".join(why))
                table.add_row(example.about, f"[{status}]{result['status']}[/]", *cells)
        self._console.print(table)


def shortened(result: Mapping[str, Any] | None) -> str:
    """The JSON of a record, with what a first look needs, in three lines."""
    if result is None:
        return "null"
    token = result["token"] or {}
    head, body, tail = (
        json.dumps(each)[1:-1]
        for each in (
            {name: result[name] for name in ("lookup_id", "provider", "status")},
            {"token": {name: token.get(name) for name in ("brand", "first6", "last4")}},
            {name: result[name] for name in ("error", "attempts", "metadata")},
        )
    )
    return f"{{{head},\n {body},\n {tail}}}"


def send(redis_url: str) -> None:
    """Enqueue the examples as a producer that knows nothing but the contract would."""
    producer = Celery(broker=redis_url)
    for provider in dict.fromkeys(example.provider for example in EXAMPLES):
        requests = [example.request for example in EXAMPLES if example.provider == provider]
        producer.send_task(f"lookup.{provider}", kwargs={"requests": requests}, queue=f"lookup.{provider}.interactive")


def wait(redis: Redis) -> dict[str, dict[str, Any]]:
    """The results by lookup id, read as a consumer would, until all are there or patience ends."""
    results: dict[str, dict[str, Any]] = {}
    last, end = b"0", time.monotonic() + PATIENCE
    while len(results) < len(EXAMPLES) and time.monotonic() < end:
        answer: Any = redis.xread({RESULTS: last}, block=500)
        for _, entries in answer:
            for last, fields in entries:  # noqa: B007 - where to read on
                results[fields[b"lookup_id"].decode()] = json.loads(fields[b"result"])
    return results


def differences(results: Mapping[str, dict[str, Any]]) -> Sequence[str]:
    """What did not come out as the examples say."""
    wrong = []
    for example in EXAMPLES:
        result = results.get(example.about)
        if result is None:
            wrong.append(f"{example.about}: no result after {PATIENCE} s")
        elif result["status"] != example.ends or result["attempts"] < example.attempts:
            ended = f"{result['status']} after {result['attempts']}"
            wrong.append(f"{example.about}: ended {ended}, not {example.ends} after {example.attempts}")
    return wrong


def dead_letters(redis: Redis) -> Sequence[str]:
    """The ids of the lookups among the dead letters, sorted."""
    letters: Any = redis.xrange(DEAD_LETTERS)
    return sorted(fields[b"lookup_id"].decode() for _, fields in letters)


def leftovers(redis: Redis, dead: Sequence[str]) -> Sequence[str]:
    """What is there besides one result for each example, and a dead letter for each that failed."""
    published: Any = redis.xrange(RESULTS)
    found = sorted(fields[b"lookup_id"].decode() for _, fields in published)
    wrong = []
    if len(found) != len(set(found)):
        wrong.append(f"some lookups have more than one result: {', '.join(found)}")
    if dead != sorted(example.about for example in EXAMPLES if example.ends == "failed"):
        wrong.append(f"not what should be among the dead letters: {', '.join(dead) or 'nothing'}")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when all was as it should be, 1 when not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--any-ports", action="store_true", help="free ports, in place of the usual ones")
    options = parser.parse_args(argv)
    try:
        with signals_as_ctrl_c():
            return Demo(Console(), Ports.choose(usual=not options.any_ports)).run()
    except KeyboardInterrupt:
        return 130
    except (ChildEndedError, ServerError, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
