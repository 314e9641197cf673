"""Measure this service side by side with what a user would pick instead, on this machine, in one run.

  python -m bench                       all of it, and docs/benchmarks.md anew (15 minutes on two cores)
  python -m bench throughput            one part, its figures on standard output
  python -m bench --scale 0.1 --rounds 1 throughput latency

Everything runs on loopback and is stopped at the end. The contenders' environments are made by `make bench`; one that
is not there is left out, and said so.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.contenders import CONTENDERS
from bench.costs import costs, versions
from bench.latency import latency
from bench.throughput import throughput
from sandbox.group import signals_as_ctrl_c

_PARTS = ("throughput", "latency", "costs")


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything was measured, 2 for a wrong command, 130 after Ctrl-C."""
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=described)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured in turn (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full counts (default: 1)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    if unknown := [part for part in options.parts if part not in _PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are: {', '.join(_PARTS)}")
    console = Console(stderr=True)
    for each in CONTENDERS:
        if not each.there:
            console.print(f"{each.name}: not measured, its environment is not there; `make bench` makes it")
    found: dict[str, Any] = {"versions": versions()}
    try:
        with signals_as_ctrl_c():
            for part in options.parts or _PARTS:
                found[part] = _measured(part, options, console)
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_text(json.dumps(found))
    if options.parts:
        sys.stdout.write(json.dumps({part: _short(found[part]) for part in options.parts}, indent=2) + "\n")
    else:
        from bench.report import write

        write(found)
        console.print("docs/benchmarks.md is written")
    return 0


def _measured(part: str, options: argparse.Namespace, console: Console) -> Any:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(part, total=None)

        def report(done: float, total: float, doing: str) -> None:
            bars.update(bar, completed=done, total=total, description=doing)

        if part == "throughput":
            return throughput(options.rounds, options.scale, report)
        if part == "latency":
            return latency(options.scale, report)
        return costs(options.rounds, options.scale, report)


def _short(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {name: _short(value) for name, value in figures.items() if name != "all"}
    return figures


if __name__ == "__main__":
    sys.exit(main())
