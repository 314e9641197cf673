"""``cardtoken completion``: the script that makes a shell complete commands, options and their values."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    eval "$(cardtoken completion bash)"        in ~/.bashrc
    eval "$(cardtoken completion zsh)"         in ~/.zshrc
    cardtoken completion fish | source         in config.fish
    """
    root = ctx.find_root()
    found = get_completion_class(shell)
    if found is None:  # pragma: no cover - the choice above names those that there are
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(root.command, {}, "cardtoken", "_CARDTOKEN_COMPLETE").source())
