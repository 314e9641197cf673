"""Run the tests on each Python and each Redis-compatible server that people run, of this machine, Debian and PyPI.

Without a choice, all tests run on each Python with the server of the lock, and those that touch Redis on each server
with the Python of this environment. What is not to be had here is named, with the reason. Logs of what failed are kept
in build/matrix.

  python -m tools.matrix                                           all of it
  python -m tools.matrix --python 3.14 --redis valkey-9            one combination
  python -m tools.matrix --redis redis-6.2 redis-8 --tests tests/integration/test_claims.py
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sandbox.environment import ROOT
from sandbox.group import signals_as_ctrl_c
from tools.matrix.combination import Combination
from tools.matrix.pieces import EMBEDDED, PYTHONS, SERVERS, own_python

#: All that reaches Redis. The others pass or fail with any server alike.
TOUCH_REDIS: Final = (
    "tests/faults",
    "tests/integration",
    "tests/security",
    "tests/cli",
    "tests/telemetry",
    "tests/contract",
)

LOGS: Final = ROOT / "build/matrix"


def main(argv: Sequence[str] | None = None) -> int:
    """Try the combinations; return 0, 1 when one failed or none was tried, 2 for a wrong command, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(argv)
    combinations = list(_chosen(options))
    console = Console(stderr=True)
    status = 1
    # A shell lets commands in the background ignore it, and the workers of the tests would too.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    try:
        with signals_as_ctrl_c(), Live(console=console, refresh_per_second=4) as live:
            for each in combinations:
                _try_out(each, combinations, options, console, live)
        tried = [each.passed for each in combinations if each.passed is not None]
        status = 0 if tried and all(tried) else 1
    except KeyboardInterrupt:
        status = 130
    Console().print(_table(combinations, last=True))
    for each in combinations:
        if each.log:
            # Beside the table, where they can be copied.
            sys.stdout.write("\n".join([f"{each.name}: {each.log}", *(f"  {test}" for test in each.failures), ""]))
    return status


def _try_out(
    one: Combination, all_of_them: list[Combination], options: argparse.Namespace, console: Console, live: Live
) -> None:
    def told(state: str) -> None:
        one.state = state
        if console.is_terminal:
            live.update(_table(all_of_them))

    told("begins")
    one.try_out(options.jobs, options.logs, told)
    live.update(_table(all_of_them) if console.is_terminal else Group())
    if not console.is_terminal:
        console.print(
            f"{one.name}: {_verdict(one)}, {one.state} ({one.seconds:.0f} s)", highlight=False, soft_wrap=True
        )


def _chosen(options: argparse.Namespace) -> Iterator[Combination]:
    """Give each Python with the server of the lock and each server with this Python, or the choice in full."""
    if options.python or options.redis:
        for python in options.python or [own_python()]:
            for server in options.redis or [EMBEDDED]:
                yield Combination(python, server, options.tests or _tests_of(server))
        return
    for python in PYTHONS:
        yield Combination(python, EMBEDDED, options.tests or ())
    for server in SERVERS:
        if server != EMBEDDED:
            yield Combination(own_python(), server, options.tests or _tests_of(server))


def _tests_of(server: str) -> Sequence[str]:
    return () if server == EMBEDDED else TOUCH_REDIS


def _verdict(one: Combination) -> str:
    if one.passed is None:
        return "not tried"
    return "passed" if one.passed else "FAILED"


def _table(combinations: Sequence[Combination], *, last: bool = False) -> Table:
    table = Table("Python", "Redis", "", "what", "s")
    colours = {"passed": "green", "FAILED": "red", "not tried": "yellow"}
    for one in combinations:
        verdict = _verdict(one) if one.seconds or last else ""
        table.add_row(
            one.python_version or one.python,
            one.server_version or one.server,
            f"[{colours[verdict]}]{verdict}" if verdict else "",
            escape(one.state),
            f"{one.seconds:.0f}" if one.seconds else "",
        )
    return table


def _parser() -> argparse.ArgumentParser:
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tools.matrix", description=__doc__, formatter_class=described)
    parser.add_argument(
        "--python", nargs="+", metavar="VERSION", choices=PYTHONS, help=f"of {', '.join(PYTHONS)}: those alone"
    )
    parser.add_argument(
        "--redis", nargs="+", metavar="SERVER", choices=SERVERS, help=f"of {', '.join(SERVERS)}: those alone"
    )
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="files and folders (default: see above)")
    parser.add_argument(
        "--logs", type=Path, default=LOGS, metavar="FOLDER", help="of what failed (default: build/matrix)"
    )
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="processes of tests at a time (default: 4)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
