"""``cardtoken metrics``: the metrics of the whole fleet from a process of its own, also while no worker runs."""

import json
import signal
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click

from cardtoken.cli.context import Context

if TYPE_CHECKING:
    from cardtoken.fleet_metrics import FleetCollector
    from cardtoken.status import ServiceStatus

_Start = Callable[..., Any]
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"


@click.command()
@click.option("--host", envvar="METRICS_HOST", default="127.0.0.1", show_default=True, help="Address [METRICS_HOST].")
@click.option("--port", envvar="METRICS_PORT", type=click.IntRange(1, 65535), default=9808, show_default=True,
              help="Port [METRICS_PORT].")  # fmt: skip
@click.pass_obj
def metrics(context: Context, host: str, port: int) -> None:
    """Serve the metrics of the whole fleet, for Prometheus and for what scales workers, until SIGTERM.

    Each worker serves them too. This goes on where no worker runs, so that the first can be started by it. One of them
    is enough, as it asks Redis alone; it writes nothing.

    \b
    /metrics   for Prometheus
    /waiting   JSON: lookups that wait, by lane and queue; 503 where Redis cannot be asked
    /livez     200 while this process answers
    """
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app
    except ImportError:
        raise click.UsageError("this command needs prometheus-client: pip install prometheus-client") from None
    from cardtoken.fleet_metrics import FleetCollector
    from cardtoken.status import look
    from cardtoken.waiting import WaitingLookups

    redis = context.redis()
    waiting = WaitingLookups(redis)
    collector = FleetCollector(lambda: look(redis, waiting))
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server = make_server(host, port, _app(collector, make_wsgi_app(registry)), _Server, _Quiet)
    except OSError as error:
        raise click.UsageError(f"--port {port} on {host} cannot be used ({error.strerror})") from None
    # Process 1 of a container has to say what SIGTERM does.
    signal.signal(signal.SIGTERM, _end)
    with server:
        click.echo(f"serving http://{host}:{port}/metrics and /waiting", err=True)
        server.serve_forever()


def lookups_that_wait(found: "ServiceStatus") -> dict[str, Any]:
    """Return the document of ``/waiting``: by lane, the lookups that wait, and those of each queue.

    ``overdue`` are messages that workers had in hand when they died: another one has to take them over.
    """
    from cardtoken.contract import Lane

    lanes: dict[str, Any] = {}
    for lane in Lane:
        queues = {each.name: each.lookups or 0 for each in found.queues if each.name.endswith(f".{lane}")}
        lanes[lane] = {"lookups": sum(queues.values()), "queues": queues}
    return {**lanes, "overdue": found.overdue}


def _app(collector: "FleetCollector", prometheus: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def app(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return prometheus(environ, start)
            case "/waiting":
                found = collector.found()
                if found is None:
                    return _said(start, "503 Service Unavailable", _TEXT, "Redis cannot be asked\n")
                return _said(start, "200 OK", _JSON, json.dumps(lookups_that_wait(found)) + "\n")
            case "/livez":
                return _said(start, "200 OK", _TEXT, "OK\n")
            case _:
                return _said(start, "404 Not Found", _TEXT, "there are /metrics, /waiting and /livez\n")

    return app


def _said(start: _Start, status: str, kind: str, text: str) -> list[bytes]:
    start(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [text.encode()]


def _end(*_: object) -> None:
    raise SystemExit(0)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, *_: Any) -> None:
        """Nothing: it would be a line for each question."""
