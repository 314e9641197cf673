"""``make demo``: the main job on this machine alone, from a message in one queue to a record in another."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis
from rich.console import Console
from rich.table import Table

from sandbox.group import Processes, signals_as_ctrl_c
from sandbox.processes import wait_for_line
from sandbox.redis_server import RedisServer

ROOT = Path(__file__).parent.parent
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
        field = {"opay": "opay_token", "afterpay": "original_request_id"}[self.provider]
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

    def __init__(self, console: Console) -> None:
        self._console = console

    def run(self) -> int:
        """Show it; answers the exit status."""
        begun = time.monotonic()
        say = self._console.print
        with RedisServer() as server, tempfile.TemporaryDirectory() as folder:
            redis: Redis = Redis.from_url(server.url)
            version: Any = redis.info("server")
            name = f"{version.get('server_name', 'redis')} {version.get('valkey_version', version['redis_version'])}"
            say(f"[bold]Redis[/]       {name} at {server.url}")
            with Processes(width=9) as processes:
                simulator = processes.start("providers", [sys.executable, "-m", "simulator"], cwd=ROOT)
                url = wait_for_line(simulator, r"listening on (\S+)", 20).group(1)
                say(f"[bold]Providers[/]   OPay and Afterpay PayNow, simulated, at {url}")
                say("[bold]Worker[/]      celery -A tasks worker\n")
                command = [sys.executable, "-m", "celery", "-q", "-A", "tasks", "worker", "-l", "INFO"]
                worker = processes.start("worker", command, env=environment(server.url, url, folder), cwd=ROOT)
                wait_for_line(worker, r" ready\.", 30)
                send(server.url)
                say(f"[bold]Sent[/]        {len(EXAMPLES)} lookups, in one message for each provider\n")
                results = wait(redis)
            self._show(results, redis)
            wrong = [*differences(results), *leftovers(redis)]
        for line in wrong:
            say(f"[red]{line}[/]")
        say(f"\nDone in {time.monotonic() - begun:.1f} s. Next: `make test`, README.md, docs/architecture.md.")
        return 1 if wrong else 0

    def _show(self, results: Mapping[str, dict[str, Any]], redis: Redis) -> None:
        table = Table(title="\nResults, in the stream " + RESULTS, title_justify="left")
        for heading in ("lookup", "status", "brand", "last4", "tries", "why"):
            table.add_column(heading, overflow="fold")
        for example in EXAMPLES:
            if (result := results.get(example.about)) is not None:
                token, error = result["token"] or {}, result["error"] or {}
                why = " ".join(str(error[key]) for key in ("category", "code") if error.get(key))
                status = {"found": "green", "failed": "red"}.get(result["status"], "yellow")
                cells = (token.get("brand"), token.get("last4"), str(result["attempts"]), why)
                table.add_row(example.about, f"[{status}]{result['status']}[/]", *cells)
        self._console.print(table)
        for example in EXAMPLES[:2]:
            self._console.print(f"\n[bold]The record of {example.about}[/], as a consumer reads it")
            self._console.print_json(json.dumps(results.get(example.about)))
        self._console.print(f"\n[bold]Dead letters[/], in the stream {DEAD_LETTERS}")
        letters: Any = redis.xrange(DEAD_LETTERS)
        for _, fields in letters:
            letter = {key.decode(): value.decode() for key, value in fields.items()}
            shown = ("lookup_id", "provider", "account", "lane", "category", "code", "failed_at")
            self._console.print_json(json.dumps({key: letter[key] for key in shown}), indent=None)


def environment(redis_url: str, providers_url: str, folder: str) -> dict[str, str]:
    """The worker's, with the sample credentials of the providers' public documentation and files for secrets."""
    secrets = {
        "OPAY_PRIVATE_KEY": "OPAYPRV16160617080050.388604510744898",
        "AFTERPAY_CLIENT_SECRET": "merchantABC",
    }
    for name, value in secrets.items():
        Path(folder, name).write_text(value)
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "OPAY_BASE_URL": providers_url,
        "OPAY_MERCHANT_ID": "256612345678901",
        "AFTERPAY_BASE_URL": providers_url,
        "AFTERPAY_CLIENT_ID": "afterpay",
        "RETRY_BASE_DELAY": "0.4",
        "RETRY_MAX_ATTEMPTS": "4",
        **{f"{name}_FILE": str(Path(folder, name)) for name in secrets},
    }


def send(redis_url: str) -> None:
    """Enqueue the examples as a producer that knows nothing but the contract would."""
    producer = Celery(broker=redis_url)
    for provider in ("opay", "afterpay"):
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


def leftovers(redis: Redis) -> Sequence[str]:
    """What is there besides one result for each example, and a dead letter for each that failed."""
    published: Any = redis.xrange(RESULTS)
    found = sorted(fields[b"lookup_id"].decode() for _, fields in published)
    letters: Any = redis.xrange(DEAD_LETTERS)
    dead = sorted(fields[b"lookup_id"].decode() for _, fields in letters)
    wrong = []
    if len(found) != len(set(found)):
        wrong.append(f"some lookups have more than one result: {', '.join(found)}")
    if dead != sorted(example.about for example in EXAMPLES if example.ends == "failed"):
        wrong.append(f"not what should be among the dead letters: {', '.join(dead) or 'nothing'}")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when all was as it should be, 1 when not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.parse_args(argv)
    try:
        with signals_as_ctrl_c():
            return Demo(Console()).run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
