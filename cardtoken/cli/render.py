"""Results as commands show them."""

import json
from typing import TYPE_CHECKING, Any

from cardtoken.cli.masking import masked_result
from cardtoken.contract import LookupResult

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {"found": "green", "not_found": "yellow", "failed": "red"}


def document(result: LookupResult, *, reveal: bool) -> dict[str, Any]:
    """The result as JSON, masked unless ``reveal``."""
    shown: dict[str, Any] = json.loads(result.to_json())
    return shown if reveal else masked_result(shown)


def rows(shown: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of everything in a document that says something."""
    flat: list[tuple[str, str]] = []
    for name, value in shown.items():
        if isinstance(value, dict):
            flat += [(f"{name}.{inner}", text) for inner, text in rows(value)]
        elif value is not None and name != "schema_version":
            flat.append((name, "yes" if value is True else "no" if value is False else str(value)))
    return flat


def table(shown: dict[str, Any]) -> "RenderableType":
    """The document as two columns."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    made.add_column(style="cyan")
    made.add_column(overflow="fold")
    for name, value in rows(shown):
        made.add_row(name, Text(value, _COLOURS.get(value, "") if name == "status" else ""))
    return made


def line(shown: dict[str, Any]) -> str:
    """The document on one line: id, status, and what matters most of the rest."""
    return "\t".join(
        [shown["completed_at"], shown["lookup_id"], shown["status"], " ".join([*_card(shown), *_why(shown)])]
    )


def coloured(shown: dict[str, Any]) -> "RenderableType":
    """The same for a terminal."""
    from cardtoken.cli.entries import Entry, moment

    *codes, message = _why(shown) or [""]
    head = [moment(shown["completed_at"]), (shown["status"], _COLOURS.get(shown["status"], "")), shown["lookup_id"]]
    return Entry(head, [" ".join([*_card(shown), *codes])], message)


def _card(shown: dict[str, Any]) -> list[str]:
    token = shown.get("token") or {}
    parts = [token.get("brand"), token.get("last4") and f"…{token['last4']}", _expiry(token)]
    return [str(each) for each in parts if each]


def _why(shown: dict[str, Any]) -> list[str]:
    error = shown.get("error") or {}
    return [str(each) for name in ("category", "code", "message") if (each := error.get(name))]


def _expiry(token: dict[str, Any]) -> str | None:
    return f"{token['exp_month']:02}/{token['exp_year']}" if token.get("exp_month") and token.get("exp_year") else None
