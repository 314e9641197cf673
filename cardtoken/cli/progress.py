"""How far a bulk run is: a bar on a terminal, a line every few seconds elsewhere."""

import time
from collections import deque
from typing import Final, Self

import click

from cardtoken.cli.context import Context

#: Seconds over which the rate is measured, at least that many before it says when the end may be.
_WINDOW: Final = 60.0
_ENOUGH: Final = 1.0
#: Seconds without a result after which the rate of before says nothing of what will be.
_PAUSE: Final = 5.0


class Pace:
    """Results a second of late, and the seconds that are left; None while nothing comes."""

    def __init__(self, done: int, now: float) -> None:
        self._samples = deque([(now, done)])

    def at(self, done: int, now: float) -> None:
        """So many are answered now."""
        last, _ = self._samples[-1]
        if now - last > _PAUSE:
            # After an outage it begins anew: the silence is not part of the rate.
            self._samples.clear()
        if not self._samples or now - last >= 0.5:
            self._samples.append((now, done))
        while now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()

    def rate(self, done: int, now: float) -> float | None:
        """Results a second; None where too few were seen, or the last one is too long ago."""
        began, before = self._samples[0]
        if now - self._samples[-1][0] > _PAUSE or now - began < _ENOUGH or done <= before:
            return None
        return (done - before) / (now - began)


class BulkProgress:
    """Shows a run, from its beginning to the end of the ``with`` block."""

    _EVERY: Final = 5.0

    def __init__(self, context: Context, total: int, done: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = context.errors
        self._on_a_terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("looking up"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
            disable=not self._on_a_terminal,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total, completed=done, pace="")
        self._total = total
        self._pace = Pace(done, time.monotonic())
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def at(self, done: int) -> None:
        """So many are answered."""
        now = time.monotonic()
        self._pace.at(done, now)
        if self._on_a_terminal:
            self._bar.update(self._task, completed=done, pace=self._words(done, now))
        elif now - self._told > self._EVERY:
            self._told = now
            words = self._words(done, now)
            click.echo(f"{done:,} of {self._total:,}{f', {words}' if words else ''}", err=True)

    def quiet(self, done: int) -> None:
        """Nothing has come for a while: an estimate of before would be wrong."""
        if self._on_a_terminal:
            self._bar.update(self._task, completed=done, pace=self._words(done, time.monotonic()))

    def _words(self, done: int, now: float) -> str:
        rate = self._pace.rate(done, now)
        if rate is None:
            return ""
        return f"{rate:,.0f}/s · {_duration((self._total - done) / rate)} left"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
