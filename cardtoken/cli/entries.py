"""Entries on a terminal of any width: one line where all fits, else two, with names whole and only words cut."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

#: A piece of an entry, or the piece and its style.
Piece = str | tuple[str, str]
_BETWEEN = "  "


class Entry:
    """One entry. ``head`` stands first; ``rest`` beside it where there is room, else below; ``words`` are last.

    Of ``words`` that do not fit the end is left out; all else is whole.
    """

    def __init__(self, head: Sequence[Piece], rest: Sequence[Piece] = (), words: str = "") -> None:
        self._head = [each for each in head if _text(each)]
        self._rest = [each for each in rest if _text(each)]
        self._words = " ".join(words.split())

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        width = options.max_width
        names = _joined(self._head + self._rest)
        words = Text(self._words)
        if names.cell_len + len(_BETWEEN) + words.cell_len <= width or not (self._rest or self._words):
            yield Text(_BETWEEN).join([names, words]) if self._words else names
            return
        yield from _folded(_joined(self._head), width, console)
        below = Text("  ")
        rest = _joined(self._rest)
        room = width - 2 - rest.cell_len - (len(_BETWEEN) if self._rest else 0)
        below.append_text(rest)
        if words and room > 1:
            words.truncate(room, overflow="ellipsis")
            below.append(_BETWEEN if self._rest else "")
            below.append_text(words)
        yield from _folded(below, width, console)


def _folded(text: "Text", width: int, console: "Console") -> "RenderResult":
    """The text on as few lines as it takes; a name that is longer than a line goes on in the next one."""
    yield from text.wrap(console, width, overflow="fold")


def _joined(pieces: Sequence[Piece]) -> "Text":
    from rich.text import Text

    return Text(_BETWEEN).join([Text(each) if isinstance(each, str) else Text(*each) for each in pieces])


def _text(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece[0]


def moment(time: str) -> str:
    """A time as it is stored, to the second."""
    return time[:19].replace("T", " ")
