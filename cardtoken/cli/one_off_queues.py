"""Result queues that nothing reads any more, and the name of another."""

import re
from collections.abc import Mapping
from typing import Any, Final

import click

from cardtoken.contract import REPLY_PREFIX

#: Answers that are not a name.
_NO: Final = {"", "n", "no", "q", "quit", "none"}
_YES: Final = {"y", "yes"}
#: The queue that a bulk run makes for itself.
_OF_BULK: Final = re.compile(r"bulk\.[0-9a-f]{16}")


def is_one_off(request: Mapping[str, Any]) -> bool:
    """Return whether a request's results went to a queue that a checkout or a bulk run made for itself."""
    name = str(request.get("reply_to", ""))
    return name.startswith(REPLY_PREFIX) or _OF_BULK.fullmatch(name) is not None


def asked_for(one_off: int, *, dry_run: bool) -> str | None:
    """Ask the operator for the result queue of so many lookups; return None where none is named.

    Raises UsageError where there is no terminal to ask on.
    """
    import sys

    text = (
        f"{one_off:,} of them asked in a one-off reply queue, of a checkout or a bulk run, that nothing reads any more"
    )
    if dry_run:
        click.echo(f"{text}: --reply-to will be needed", err=True)
        return None
    if not sys.stdin.isatty():
        raise click.UsageError(f"{text}: name another with --reply-to")
    click.echo(f"{text}.", err=True)
    while True:
        answer: str = click.prompt(
            "Name of the result queue for these (empty: change nothing)", default="", show_default=False, err=True
        )
        answer = answer.strip()
        if answer.lower() in _NO:
            return None
        if why := _unusable(answer):
            click.echo(why, err=True)
        else:
            return answer


def _unusable(name: str) -> str | None:
    """Return why nothing would read a queue of that name, or there cannot be one; None for a good name."""
    from cardtoken.errors import InvalidRequestError
    from cardtoken.message import checked_reply_to

    if name.lower() in _YES:
        return "The name of a result queue, please, such as checkout."
    try:
        checked_reply_to(name)
    except InvalidRequestError as error:
        return str(error)
    return f"{name} is a one-off queue too." if is_one_off({"reply_to": name}) else None
