"""The command line: options, the listening socket, and the ways to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from simulator.accounts import read_accounts
from simulator.app import PROVIDERS, Simulator
from simulator.control import checked_latency
from simulator.scenarios import Catalogue

STOP_GRACE = 0.1
"""Seconds that answers under way get when the simulator stops; hanging ones have no end of their own."""
BACKLOG = 4096


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal, or the end of standard input, stops it; answer the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.certfile is None) != (options.keyfile is None):
        parser.error("--certfile and --keyfile go together")
    try:
        simulator = Simulator(
            read_accounts(options.accounts, PROVIDERS) if options.accounts else None,
            latency=options.latency,
            token_ttl=options.token_ttl,
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(simulator, options))
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"simulator: {problem}\n")
        return 1
    return 0


async def _serve(simulator: Simulator, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.exit_with_stdin:
        _call_at_end_of_stdin(lambda: loop.call_soon_threadsafe(stop.set))

    # A handler whose client is gone is cancelled: what hangs for ever must not stay for ever.
    http = web.Server(simulator.handle, handler_cancellation=True, access_log=None)

    def accept() -> asyncio.Protocol:
        simulator.stats.connections_accepted += 1
        return http()

    server = await loop.create_server(
        accept, options.host, options.port, ssl=_tls(options.certfile, options.keyfile), backlog=BACKLOG
    )
    port = server.sockets[0].getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    sys.stdout.write(f"simulator listening on {'https' if options.certfile else 'http'}://{host}:{port}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()
    await http.shutdown(STOP_GRACE)


def _call_at_end_of_stdin(callback: Callable[[], object]) -> None:
    """The process at the other end of the pipe is gone when it ends, however it died."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        # A signal may have stopped the loop already.
        with contextlib.suppress(RuntimeError):
            callback()

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def _tls(certfile: Path | None, keyfile: Path | None) -> ssl.SSLContext | None:
    if certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certfile, keyfile)
    return context


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator",
        description="Play OPay and Afterpay PayNow over real HTTP: their checks, their answers and their failures.",
        epilog=_scenario_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default: 0)")
    parser.add_argument(
        "--latency", type=_latency, default=0.0, metavar="SECONDS", help="wait before every answer (default: 0)"
    )
    parser.add_argument(
        "--token-ttl", type=_ttl, default=3600.0, metavar="SECONDS", help="life of an access token (default: 3600)"
    )
    parser.add_argument(
        "--accounts", type=Path, metavar="FILE", help="JSON file with accounts beside the built-in ones"
    )
    parser.add_argument("--certfile", type=Path, metavar="FILE", help="PEM certificate chain: speak HTTPS")
    parser.add_argument("--keyfile", type=Path, metavar="FILE", help="PEM private key of the certificate")
    parser.add_argument(
        "--exit-with-stdin", action="store_true", help="stop when standard input ends, so when the parent process does"
    )
    return parser


def _scenario_help() -> str:
    """The magic references, with the providers that know each."""
    lines = [
        "What a lookup gets is written in its reference: OPAY_TOKEN_<scenario> as opayToken, or <scenario> as",
        "originalRequestId. `~` and any text after it tell references apart. Any other 32 lowercase hexadecimal",
        "characters are a card too, always the same one; any other name is not found. N is a count (each full",
        "reference has its own), S seconds, NNN an HTTP status, XXXXX a code.",
    ]
    for kind in PROVIDERS:
        lines += ["", f"{kind.title}, {kind.method} {kind.path}"]
        lines += [f"  {scenario.usage:<33} {scenario.summary}" for scenario in Catalogue(kind()).scenarios]
    return "\n".join(lines)


def _latency(text: str) -> float:
    try:
        return checked_latency(float(text))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem


def _ttl(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
