"""``cardtoken lookup``: one token, waiting for its result."""

import contextlib
import sys

import click

from cardtoken.cli.context import Context
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.references import FIELDS, described

_WHAT_NEXT = {
    "timeout": "The provider was too slow. Ask again later.",
    "unavailable": "The provider is down. Ask again later; `cardtoken status` shows what waits.",
    "rate_limited": "The provider wants fewer calls. Ask again later.",
    "expired": "No worker came to it in time: `cardtoken status` shows whether one consumes its queue.",
    "authentication": "The worker's credentials are refused: correct the account's keys and restart the workers.",
    "invalid_request": "Correct the request.",
    "rejected": "The provider understood and refuses; its code and message say why.",
    "protocol": "The provider's answer could not be trusted. `cardtoken dead-letters list` keeps it.",
    "internal": "The service failed: the worker's log says more.",
}


def _pairs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    if wrong := [each for each in given if "=" not in each]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return dict(each.split("=", 1) for each in given)


@click.command()
@click.argument("provider", type=click.Choice(list(FIELDS)))
@click.argument("reference")
@click.option("--account", default=None, help="Whose credentials to ask with  [default: default]")
@click.option("--lane", type=click.Choice(["interactive", "bulk"]), default="interactive", show_default=True)
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=30.0, show_default=True, help="Seconds to wait.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Comes back in the result.")
@click.option("--reveal", is_flag=True, help="Show the card token and its holder.")
@click.option("--json", "as_json", is_flag=True, help="The whole result as JSON.")
@click.pass_obj
@described
def lookup(
    context: Context,
    *,
    provider: str,
    reference: str,
    account: str | None,
    lane: str,
    timeout: float,
    metadata: dict[str, str],
    reveal: bool,
    as_json: bool,
) -> Exit:
    """Ask what is behind a card token, wait, and show the record.

    REFERENCE is {references}; - reads it from standard input, where no list of
    processes shows it.

    \b
    cardtoken lookup opay OPAY_TOKEN_visa
    pass show card | cardtoken lookup opay - --json
    cardtoken lookup afterpay 8456732415666565656565656565656 --timeout 5

    Exit status: 0 found, 3 there is no such token, 1 the lookup failed, 4 no answer in time, be it the provider's.
    """
    from cardtoken.cli.render import document, rows, table
    from cardtoken.errors import LookupFailedError

    if reference == "-":
        reference = sys.stdin.readline().strip()
    request: dict[str, object] = {FIELDS[provider]: reference, "metadata": metadata}
    if account is not None:
        request["account"] = account
    client = context.client()
    waiting = context.errors.status(f"asking {provider} …") if context.errors.is_terminal else contextlib.nullcontext()
    try:
        with waiting:
            result = client.lookup(request, timeout=timeout, lane=lane)
    except LookupFailedError as error:
        result = error.result
    # The caller knows the metadata that it sent.
    shown = {**document(result, reveal=reveal), "metadata": metadata}
    if as_json:
        context.say_json(shown)
    elif context.on_a_terminal:
        context.console.print(table(shown))
    else:
        for name, value in rows(shown):
            click.echo(f"{name}: {value}")
    if result.error is not None and not as_json:
        context.errors.print(_WHAT_NEXT.get(result.error.category, _WHAT_NEXT["internal"]))
    if result.error is None:
        return Exit.DONE if result.status == "found" else Exit.NOT_FOUND
    return Exit.TIMEOUT if result.error.category in {"timeout", "expired"} else Exit.FAILED
