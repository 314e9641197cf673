"""``cardtoken circuit``: which accounts are not asked, and why; for planned maintenance too."""

from dataclasses import asdict
from typing import Any

import click

from cardtoken.cli.context import Context
from cardtoken.cli.duration import duration
from cardtoken.cli.entries import Entry as Shown
from cardtoken.cli.entries import Piece
from cardtoken.cli.exit_codes import Exit
from cardtoken.cli.references import FIELDS

_COLOURS = {"closed": "green", "open": "red", "paused": "yellow", "trying": "yellow", "held": "magenta"}


@click.group()
def circuit() -> None:
    """Look at the circuits of the providers' accounts; hold one open, close one.

    While a circuit is open no worker asks the provider: bulk lookups wait in Redis, interactive ones are answered as
    unavailable at once. It opens by itself where most calls of ten seconds fail as calls to a sick provider do, and
    closes when one lookup, tried after a while, succeeds.

    \b
    cardtoken circuit list
    cardtoken circuit open opay --for 2h --reason "maintenance until 4"
    cardtoken circuit close opay
    """


@circuit.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.pass_obj
def list_(context: Context, as_json: bool) -> Exit:
    """List the circuits that were used within a day: state, for how long, calls of the last seconds, reason.

    States: closed; open (no worker asks); paused (the provider asked to be left alone); trying (the next lookup
    decides); held (open because an operator said so).
    """
    import json

    from cardtoken.circuits import circuits

    found = circuits(context.redis())
    if as_json:
        for each in found:
            click.echo(json.dumps(asdict(each), ensure_ascii=False))
        return Exit.DONE
    rows = [
        (each.provider, each.account, each.state, _seconds(each.left), f"{each.good}/{each.bad}", each.reason or "")
        for each in found
    ]
    if context.on_a_terminal and rows:
        for provider, account, state, left, calls, reason in rows:
            for_how_long = "" if left == "-" else f"for {left}"
            head: list[Piece] = [(provider, "cyan"), account, (state, _COLOURS.get(state, "")), for_how_long]
            context.console.print(Shown(head, [f"well/badly {calls}"], reason))
    else:
        for row in rows:
            click.echo("\t".join(row))
    if not rows:
        context.errors.print("No call was made within a day, and nothing is held open.")
    return Exit.DONE


def _account(command: Any) -> Any:
    command = click.option("--account", default="*", show_default="all of them", help="One account.")(command)
    return click.argument("provider", type=click.Choice(list(FIELDS)))(command)


@circuit.command("open")
@_account
@click.option("--for", "seconds", type=duration, required=True, help="How long: 15m, 2h, 1d.")
@click.option("--reason", required=True, help="Shown in the list.")
@click.pass_obj
def open_(context: Context, provider: str, account: str, seconds: float, reason: str) -> Exit:
    """Ask a provider nothing for a while, even if it is well; the workers know within a second.

    \b
    cardtoken circuit open opay --for 2h --reason "maintenance until 4"
    cardtoken circuit open afterpay --account shop --for 30m --reason "keys are being changed"
    """
    from cardtoken.circuits import hold_open

    hold_open(context.redis(), provider, account, seconds=seconds, reason=reason)
    whose = "all accounts" if account == "*" else f"account {account}"
    click.echo(f"{provider}, {whose}: not asked for {_seconds(seconds)}; `cardtoken circuit close` ends it sooner")
    return Exit.DONE


@circuit.command("close")
@_account
@click.pass_obj
def close(context: Context, provider: str, account: str) -> Exit:
    """Let lookups through again, also those that were held; the circuit opens again if the provider is still sick.

    Exit status: 0 it was open, 3 it was not.
    """
    from cardtoken.circuits import close as closed

    if closed(context.redis(), provider, account):
        click.echo(f"{provider}: asked again, within two seconds")
        return Exit.DONE
    click.echo("Nothing was open.", err=True)
    return Exit.NOT_FOUND


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
