"""What was meant by a name that there is not."""

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Final

#: How alike two names have to be, from 0 to 1, for the one to be a slip of the other.
_FIELDS_ALIKE: Final = 0.7
_VARIABLES_ALIKE: Final = 0.85
#: What a field's name may look like to be repeated: anything else may be a value that stands in the wrong place.
_FIELD_NAME: Final = re.compile(r"[A-Za-z_]{1,40}")


def unknown_field(name: str, known: Collection[str]) -> str:
    """That a field is unknown, with the one that may have been meant. Its name is shown where it can be no value."""
    shown = name if _FIELD_NAME.fullmatch(name) else "an unknown field"
    meant = nearest_field(name, known)
    return f"{shown}: there is no such field{f'; did you mean {meant}?' if meant else ''}"


def nearest_field(name: str, known: Collection[str]) -> str | None:
    """The known field that a name is nearly the same as; None where there is none."""
    # What is much longer is no slip, and would take its time to compare.
    meant = difflib.get_close_matches(name[:60].lower().replace("-", "_"), known, 1, _FIELDS_ALIKE)
    return meant[0] if meant else None


def misspelt_variables(given: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Names of variables that are nearly one of ours, each with that one."""
    return [
        (name, meant[0])
        for name in sorted(set(given) - set(known))
        if (meant := difflib.get_close_matches(name, known, 1, _VARIABLES_ALIKE))
    ]
