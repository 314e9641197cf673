"""Hold the service against its promises, with tens of thousands of lookups and hundreds of faults.

Every run starts its own Redis, providers and workers on this machine, counts the results of every lookup that it sent,
and stops what it started. The whole takes about three quarters of an hour on two cores; see docs/reliability.md.

  python -m soak                       all of it
  python -m soak kills idle            two runs
  python -m soak --scale 0.05          everything, in its short form
  python -m soak kills --seed 7        with the choices of an earlier run
"""

import argparse
import json
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sandbox.group import signals_as_ctrl_c
from soak import (
    alerts,
    answers,
    disturbances,
    failover,
    fuzz,
    hosts,
    interruptions,
    kills,
    outages,
    rotation,
    scaling,
    silence,
    timings,
)
from soak.record import Plan, Record
from soak.stock import UnavailableError

RUNS = {
    **kills.RUNS,
    **disturbances.RUNS,
    **scaling.RUNS,
    **fuzz.RUNS,
    **answers.RUNS,
    **interruptions.RUNS,
    **outages.RUNS,
    **silence.RUNS,
    **failover.RUNS,
    **hosts.RUNS,
    **rotation.RUNS,
    **timings.RUNS,
    **alerts.RUNS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Make the runs; 0 when every goal was met, 1 when not, 2 for a wrong command, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(argv)
    if unknown := [name for name in options.names if name not in RUNS]:
        parser.error(f"no such run: {', '.join(unknown)}; there are: {', '.join(RUNS)}")
    if options.list:
        for name, run in RUNS.items():
            print(f"{name:18}{(run.__doc__ or '').splitlines()[0]}")  # noqa: T201 - what was asked for
        return 0
    console = Console(stderr=True)
    console.print(f"seed {options.seed}, scale {options.scale:g}")
    done: dict[str, tuple[Record | str, float]] = {}
    try:
        with signals_as_ctrl_c():
            for name in options.names or RUNS:
                done[name] = _made(name, options, console)
    except KeyboardInterrupt:
        console.print("stopped; these runs were made:")
        return _told(done, options, 130)
    failed = any(isinstance(record, Record) and record.passed is False for record, _ in done.values())
    return _told(done, options, 1 if failed else 0)


def _made(name: str, options: argparse.Namespace, console: Console) -> tuple[Record | str, float]:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    begun = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(name, total=None)

        def progress(done: float, total: float, doing: str) -> None:
            bars.update(bar, completed=done, total=total, description=f"{name}: {doing}")

        try:
            record: Record | str = RUNS[name](Plan(scale=options.scale, seed=options.seed, progress=progress))
        except UnavailableError as error:
            record = str(error)
        except Exception as error:  # noqa: BLE001 - the other runs are still to be made
            console.print_exception()
            record = Record(goal="it ends", passed=False, done={}, figures={type(error).__name__: str(error)})
    took = time.monotonic() - begun
    verdict = record if isinstance(record, str) else f"{_verdict(record)} {dict(record.figures)}"
    console.print(f"{name}: {verdict} ({took:.0f} s)", highlight=False)
    return record, took


def _verdict(record: Record) -> str:
    return {True: "met", False: "MISSED", None: "-"}[record.passed]


def _told(done: dict[str, tuple[Record | str, float]], options: argparse.Namespace, status: int) -> int:
    table = Table("run", "done", "goal", "", "figures", "s")
    document: dict[str, Any] = {}
    for name, (record, took) in done.items():
        if isinstance(record, str):
            table.add_row(name, "", "", "not made", record, "")
            document[name] = {"not_made": record}
            continue
        cells = ["\n".join(f"{key} {value}" for key, value in each.items()) for each in (record.done, record.figures)]
        table.add_row(name, cells[0], record.goal, _verdict(record), cells[1], f"{took:.0f}", end_section=True)
        document[name] = {
            "goal": record.goal,
            "passed": record.passed,
            "done": dict(record.done),
            "figures": dict(record.figures),
            "seconds": round(took, 1),
        }
    Console().print(table)
    if options.json:
        runs = {"seed": options.seed, "scale": options.scale, "runs": document}
        options.json.write_text(json.dumps(runs, indent=2) + "\n")
    return status


def _parser() -> argparse.ArgumentParser:
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__, formatter_class=described)
    parser.add_argument("names", nargs="*", metavar="RUN", help="runs to make; --list names them (default: all)")
    parser.add_argument("--list", action="store_true", help="say which runs there are, and end")
    parser.add_argument("--scale", type=_share, default=1.0, help="part of the full counts (default: 1)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="of all choices (default: a new one)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 10:
        raise argparse.ArgumentTypeError("a number above 0, 10 at most")
    return share


if __name__ == "__main__":
    sys.exit(main())
