"""``cardtoken results``: what was answered, looked at or consumed."""

import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from cardtoken.cli.context import Context

if TYPE_CHECKING:
    from redis import RedisError

    from cardtoken.contract import LookupResult


@click.command()
@click.option("--reply-to", default="default", show_default=True, metavar="NAME", help="The result queue.")
@click.option("--group", default=None, help="Consume as one of this group: what is shown is acknowledged.")
@click.option("--consumer", default=None, help="The consumer's name in the group, the same at each start.")
@click.option("--new", is_flag=True, help="Only what comes from now on.")
@click.option("--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--count", type=click.IntRange(1), default=None, help="End after so many.")
@click.option("--reveal", is_flag=True, help="Show card tokens and their holders.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.pass_obj
def results(
    context: Context,
    *,
    reply_to: str,
    group: str | None,
    consumer: str | None,
    new: bool,
    follow: bool,
    count: int | None,
    reveal: bool,
    as_json: bool,
) -> None:
    """Show the results in a result queue, a line each.

    Without --group it only looks: nothing is acknowledged, and consumers get as much as before. With --group and
    --consumer it consumes.

    \b
    cardtoken results --reply-to checkout --count 10
    cardtoken results --follow --new --json | jq -r .status
    cardtoken results --reply-to autopay --group billing --consumer billing-1 --follow --json
    """
    if (group is None) != (consumer is None):
        raise click.UsageError("--group and --consumer go together")
    if new and not follow:
        raise click.UsageError("--new waits for what comes, so it needs --follow")
    if group is None or consumer is None:
        _show(context, islice(_looked_at(context, reply_to, new=new, follow=follow), count), reveal, as_json)
        return
    begin = "$" if new else "0"
    with context.client().results(reply_to, group=group, consumer=consumer, start=begin, follow=follow) as found:
        _show(context, islice(found, count), reveal, as_json)


def _show(context: Context, found: "Iterable[LookupResult]", reveal: bool, as_json: bool) -> None:
    from cardtoken.cli.render import coloured, document, line

    for result in found:
        shown = document(result, reveal=reveal)
        if as_json:
            click.echo(json.dumps(shown, ensure_ascii=False))
        elif context.on_a_terminal:
            context.console.print(coloured(shown))
        else:
            click.echo(line(shown))


def _looked_at(context: Context, reply_to: str, *, new: bool, follow: bool) -> "Iterator[LookupResult]":
    """Return the entries of a result queue, without taking them; an entry that is not a result is passed over."""
    from redis import RedisError

    from cardtoken.errors import UnreadableResultError
    from cardtoken.keys import stream_name
    from cardtoken.stream_entries import read_result

    redis, stream = context.redis(), stream_name(reply_to)
    last: Any = b"0"
    patience = _Patience(stream, follow=follow)
    while True:
        if new:
            newest: Any = redis.xrevrange(stream, count=1)
            last, new = (newest[0][0] if newest else last), False
        try:
            answer: Any = redis.xread({stream: last}, count=100, block=1000 if follow else None)
        except RedisError as error:
            patience.wait_or_raise(error)
            continue
        patience.over()
        if not answer and not follow:
            return
        for _, entries in answer or ():
            for last, fields in entries:  # noqa: B007 - where to read on
                try:
                    yield read_result(fields)
                except UnreadableResultError:
                    continue


class _Patience:
    """Waits while Redis is away or refuses for a reason that may pass, as a consumer of a group does; says so once."""

    def __init__(self, stream: str, *, follow: bool) -> None:
        self._stream = stream
        self._follow = follow
        self._was_reached = False
        self._is_needed = False

    def over(self) -> None:
        """Redis answers."""
        self._was_reached, self._is_needed = True, False

    def wait_or_raise(self, error: "RedisError") -> None:
        """Wait a second, or raise the error without --follow, or if Redis was never reached."""
        from cardtoken.refusals import is_worth_waiting, text_of

        if not (self._follow and self._was_reached and is_worth_waiting(error)):
            raise error
        if not self._is_needed:
            click.echo(f"reading {self._stream} waits for Redis: {text_of(error)}", err=True)
        self._is_needed = True
        time.sleep(1)
