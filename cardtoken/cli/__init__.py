"""The ``cardtoken`` command. A module for each command; one is loaded when it is called."""

import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

_BEGAN = time.monotonic()  # before the imports, which take longest

import click

from cardtoken import __version__, streams
from cardtoken.cli.context import Context
from cardtoken.cli.exit_codes import EXITS, Exit
from cardtoken.errors import CardTokenError, InvalidRequestError, LookupTimeoutError, RedisUnavailableError

#: Command → its module in this package; the command is the attribute of the same name, with underscores.
_COMMANDS = {
    "lookup": "lookup",
    "bulk": "bulk",
    "results": "results",
    "dead-letters": "dead_letters",
    "quarantine": "quarantine",
    "circuit": "circuit",
    "status": "status",
    "health": "status",
    "metrics": "metrics",
    "completion": "completion",
}


class _Commands(click.Group):
    """Loads a command's module when it is called: ``health`` is asked for every few seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f"cardtoken.cli.{_COMMANDS[cmd_name]}"), cmd_name.replace("-", "_")
        )
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXITS,
)
@click.version_option(__version__, prog_name="cardtoken")
@click.option(
    "--redis-url",
    envvar="REDIS_URL",
    default=None,
    help="Where the queues are; with a password, set REDIS_URL instead: others see this.",
)
@click.option("--redis-ca-file", envvar="REDIS_CA_FILE", default=None, help="Authority for rediss:// [REDIS_CA_FILE].")
@click.option(
    "--redis-cert-file", envvar="REDIS_CERT_FILE", default=None, help="Client certificate, PEM [REDIS_CERT_FILE]."
)
@click.option("--redis-key-file", envvar="REDIS_KEY_FILE", default=None, help="Its key, PEM [REDIS_KEY_FILE].")
@click.option(
    "--sentinel-master",
    envvar="REDIS_SENTINEL_MASTER",
    default="",
    help="Name of the primary for sentinel:// [REDIS_SENTINEL_MASTER].",
)
@click.pass_context
def cardtoken(ctx: click.Context, /, **connection: Any) -> None:
    """Look up what is behind a payment provider's card token, and look after the service that does it.

    \b
    cardtoken lookup opay OPAY_TOKEN_…         ask, wait, show the record
    cardtoken bulk cards.csv --out cards.jsonl ask for a whole file
    cardtoken status --watch                   what is going on
    cardtoken dead-letters list                what did not end well

    Redis is named by REDIS_URL, or REDIS_URL_FILE for a file that holds it. Card tokens are shown by their last four
    characters; --reveal shows them whole. Every command takes --json, and writes plain text where its output is not
    a terminal.
    """
    # Called by another program it begins here, and else with the program.
    ctx.obj = Context(**connection, began=ctx.obj or time.monotonic())


def main() -> None:
    """The console script: every error is one line that names the fix, and an exit status that says what it was."""
    streams.repair()
    try:
        status = cardtoken.main(prog_name="cardtoken", standalone_mode=False, obj=_BEGAN)
    except click.exceptions.Abort:
        status = Exit.INTERRUPTED
    except KeyboardInterrupt:
        status = Exit.INTERRUPTED
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except BrokenPipeError:
        # The reader of the pipe has seen enough, as `head` does.
        sys.stderr.close()
        status = Exit.DONE
    except CardTokenError as error:
        click.echo(f"cardtoken: {error}", err=True)
        status = _status_of(error)
    except _redis_error() as error:
        # Of a command that it does not know, Redis quotes what followed.
        said = str(error).partition(", with args")[0]
        click.echo(f"cardtoken: Redis cannot be asked ({said or type(error).__name__}); see REDIS_URL", err=True)
        status = Exit.REDIS
    except OSError as error:
        # A full disk, a file that may not be read: the system's own words.
        what = error.filename if isinstance(error.filename, str) else "a file or the output"
        click.echo(f"cardtoken: {what} cannot be read or written: {error.strerror or type(error).__name__}", err=True)
        with suppress(OSError):  # what could not be written would be tried again at the end, with a traceback
            sys.stdout.close()
        status = Exit.FAILED
    except Exception as error:  # noqa: BLE001 - a traceback's last line may quote a card token
        from cardtoken.error_description import describe_error

        click.echo(
            f"cardtoken: an unexpected error of this program, please report it: {describe_error(error)}", err=True
        )
        status = Exit.FAILED
    sys.exit(int(status or 0))


def _redis_error() -> type[Exception]:
    from redis import RedisError

    return RedisError


def _status_of(error: CardTokenError) -> Exit:
    match error:
        case InvalidRequestError():
            return Exit.USAGE
        case LookupTimeoutError():
            return Exit.TIMEOUT
        case RedisUnavailableError():
            return Exit.REDIS
        case _:
            return Exit.FAILED
