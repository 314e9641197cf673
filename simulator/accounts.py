"""The accounts file: the same JSON from which the service reads its own accounts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from simulator.provider import Provider


def read_accounts(path: Path, providers: Iterable[type[Provider]]) -> dict[str, dict[str, str]]:
    """Read `{"opay": {NAME: {"merchant_id": …, "private_key": …}}, …}` as provider → identifier → secret.

    Names and further fields (a base URL, for instance) are the service's own business and passed over. Raises
    ValueError, which names the entry but shows no value, when the file is not of this shape.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    fields = {provider.name: provider.account_fields for provider in providers}
    if not isinstance(document, dict) or not document.keys() <= fields.keys():
        raise ValueError(f"{path}: expected a JSON object with no other keys than {', '.join(fields)}")
    accounts: dict[str, dict[str, str]] = {}
    for provider, entries in document.items():
        identifier, secret = fields[provider]
        if not isinstance(entries, dict):
            raise ValueError(f"{path}: {provider} is not an object of accounts")  # noqa: TRY004 - a bad file, not a bug
        accounts[provider] = {}
        for name, entry in entries.items():
            values = [entry.get(field) for field in (identifier, secret)] if isinstance(entry, dict) else []
            match values:
                case [str(key), str(value)] if key and value:
                    accounts[provider][key] = value
                case _:
                    raise ValueError(f"{path}: {provider}.{name} needs the strings {identifier} and {secret}")
    return accounts
