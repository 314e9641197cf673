"""A duration on the command line."""

import re
from typing import Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration(text: str) -> float:
    """Return the seconds of a number and a unit; raise BadParameter with the forms that there are.

    click takes the function for a type, and its name for the metavar DURATION.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not found:
        raise click.BadParameter(f"{text!r} is not a duration; write it as 90s, 15m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]
