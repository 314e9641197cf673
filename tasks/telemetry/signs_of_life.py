"""Signs of life that a worker's threads give as they go on, for one that watches whether they come.

Assignments of single attributes and items, so that no lock is needed: a thread that holds a lock for ever must be seen.
"""

from dataclasses import dataclass
from threading import get_ident


@dataclass(slots=True)
class Sign:
    """The signs of one thread. ``given``: how many; ``due``: seconds within which the next one is to come.

    ``always``: also while Redis does not answer.
    """

    name: str
    always: bool = False
    given: int = 0
    due: float = 0.0

    def give(self, due: float = 0.0) -> None:
        """Go on; the thread may be silent for ``due`` seconds now, because it waits for so long."""
        self.due = due
        self.given += 1


class SignsOfLife:
    """The signs of one process."""

    def __init__(self) -> None:
        #: By thread id: of those threads that are watched one by one.
        self.threads: dict[int, Sign] = {}
        #: How many all other threads have given: those that run messages and calls. One may be lost, but not many.
        self.others = 0
        #: Names of watched threads that ended and should not have.
        self.lost: set[str] = set()

    def begin(self, name: str, *, always: bool = False) -> Sign:
        """Watch the calling thread from now on, under that name."""
        sign = self.threads[get_ident()] = Sign(name, always)
        return sign

    def end(self) -> None:
        """Watch the calling thread no more: it ends."""
        self.threads.pop(get_ident(), None)

    def lose(self) -> None:
        """The calling thread ends by an error, and would be missed."""
        if (sign := self.threads.pop(get_ident(), None)) is not None:
            self.lost.add(sign.name)

    def give(self) -> None:
        """Go on, in whichever thread: what it waited for is over."""
        sign = self.threads.get(get_ident())
        if sign is None:
            self.others += 1
        else:
            sign.given += 1
