"""What commands share: the connection, and where they write."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

if TYPE_CHECKING:
    from redis import Redis
    from rich.console import Console

    from cardtoken.client import Client

T = TypeVar("T")

_LOCAL = "redis://127.0.0.1:6379/0"
#: What the environment may say.
_VARIABLES: Final = frozenset({
    *("REDIS_URL", "REDIS_URL_FILE", "REDIS_CA_FILE", "REDIS_CERT_FILE", "REDIS_KEY_FILE"),
    *("REDIS_SENTINEL_MASTER", "REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_PASSWORD_FILE"),
})  # fmt: skip


@dataclass
class Context:
    """One call of the command. ``redis_url`` and the rest are as given, or from the environment."""

    redis_url: str | None
    redis_ca_file: str | None
    redis_cert_file: str | None
    redis_key_file: str | None
    sentinel_master: str
    #: When the program began, by the monotonic clock.
    began: float

    def client(self, **options: Any) -> "Client":
        """A client on that Redis; it is closed when the command ends."""
        from cardtoken.client import Client

        with _usage_errors():
            client = Client(self._url(), **self._options(), **options)
        click.get_current_context().call_on_close(client.close)
        return client

    def redis(self, **options: Any) -> "Redis":
        """A connection to that Redis, for all but lookups."""
        from cardtoken.connection import connect

        with _usage_errors():
            redis = connect(self._url(), **self._options(), **options)
        click.get_current_context().call_on_close(redis.close)
        return redis

    def left(self, timeout: float) -> float:
        """Return what is left of ``timeout`` seconds since the program began: loading it may take long too."""
        return max(0.0, self.began + timeout - time.monotonic())

    def within(self, seconds: float, call: Callable[[], T]) -> T:
        """Return what the call returns, raise what it raises, or ``redis.TimeoutError`` after so many seconds.

        Socket timeouts bound single operations, and the resolution of a name not at all.
        """
        import threading

        from redis import TimeoutError as Late

        ended: list[tuple[T | None, BaseException | None]] = []

        def run() -> None:
            try:
                ended.append((call(), None))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                ended.append((None, error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        if not ended:
            raise Late(f"no answer within {seconds:.1f} s")
        answer, error = ended[0]
        if error is not None:
            raise error
        return cast("T", answer)

    @cached_property
    def console(self) -> "Console":
        """Standard output: pretty on a terminal, plain in a pipe and with NO_COLOR."""
        from rich.console import Console

        # A pipe has no width: a line is a line.
        return Console(highlight=False, soft_wrap=not sys.stdout.isatty())

    @cached_property
    def errors(self) -> "Console":
        """Standard error, for progress and for what goes wrong."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    @property
    def on_a_terminal(self) -> bool:
        """Whether standard output is a terminal."""
        return sys.stdout.isatty()

    def progress(self, things: Iterable[T], total: int, doing: str) -> Iterator[T]:
        """The same things, with a bar on a terminal."""
        from rich.progress import track

        return iter(
            track(things, doing, total, console=self.errors, transient=True, disable=not self.errors.is_terminal)
        )

    def say_json(self, document: object) -> None:
        """One JSON document, on one line in a pipe."""
        click.echo(json.dumps(document, indent=2 if self.on_a_terminal else None, ensure_ascii=False))

    def _url(self) -> str:
        from cardtoken.connection import check_url
        from cardtoken.nearest import misspelt_variables

        url = self.redis_url or _secret("REDIS_URL") or _LOCAL
        for name, meant in misspelt_variables(os.environ, _VARIABLES):
            click.echo(f"{name} is set, and there is no such setting; did you mean {meant}?", err=True)
        try:
            check_url(url)
        except ValueError as error:
            raise click.UsageError(f"REDIS_URL {error}") from None
        return url

    def _options(self) -> dict[str, Any]:
        files = {"ca_file": self.redis_ca_file, "cert_file": self.redis_cert_file, "key_file": self.redis_key_file}
        return {
            **{name: Path(path) if path else None for name, path in files.items()},
            "sentinel_master": self.sentinel_master,
            "sentinel_password": _secret("REDIS_SENTINEL_PASSWORD"),
        }


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Where the client cannot be made of what was given, that is a mistake of the call."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(f"the connection to Redis: {error}") from None


def _secret(name: str) -> str | None:
    """An environment variable, or the content of the file that ``<name>_FILE`` names."""
    if file := os.environ.get(f"{name}_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{name}_FILE: the file cannot be read ({type(error).__name__})") from None
    return os.environ.get(name)
