"""Provider accounts: ``default`` from the environment, further ones from PROVIDER_ACCOUNTS_FILE.

The provider's own model defines the fields of an account; nothing here knows a provider. The optional fields of the
environment (base URL, User-Agent parts, code overrides) hold for the accounts of the file too, unless an account gives
its own. One exception keeps credentials from the wrong host: an account with any URL of its own takes none from the
environment.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from cardtoken.contract import DEFAULT
from cardtoken.nearest import unknown_field
from config.environment import put_secrets, variable_name
from config.errors import Fault, faults_of
from config.files import Content, Unreadable

FILE_VARIABLE = "PROVIDER_ACCOUNTS_FILE"
_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHAPE = 'a JSON object such as {"opay": {"NAME": {"merchant_id": "…", "private_key": "…"}}}'

#: Account by name, for one provider.
Accounts = dict[str, BaseModel]


def read_accounts(
    models: Mapping[str, type[BaseModel]], given: dict[str, str], contents: Mapping[str, Content]
) -> tuple[dict[str, Accounts], list[Fault]]:
    """Return the accounts by provider and name, and all faults in them. ``contents``: of files, by their variable."""
    in_file, faults = _parse_file(contents.get(FILE_VARIABLE), models)
    accounts: dict[str, Accounts] = {}
    for provider, model in models.items():
        unreadable = put_secrets(model, provider, given, contents)
        faults += unreadable
        fields = {name: variable_name(provider, name) for name in model.model_fields}
        values = {name: given[variable] for name, variable in fields.items() if variable in given}
        spoilt = {fault.variable.removesuffix("_FILE") for fault in unreadable}
        own, own_faults = _default_account(provider, model, values, spoilt)
        faults += [fault for fault in own_faults if fault.variable not in spoilt]
        shared = {name: value for name, value in values.items() if not model.model_fields[name].is_required()}
        further, further_faults = _further_accounts(provider, model, in_file.get(provider, {}), shared)
        faults += further_faults
        if DEFAULT in own and DEFAULT in further:
            where = f"{FILE_VARIABLE}"
            faults.append(Fault(where, f"{provider}.{DEFAULT} is given in the environment too", "keep one of them"))
        if own or further:
            accounts[provider] = {**further, **own}
    return accounts, faults


def plain_http_faults(provider: str, accounts: Accounts) -> list[Fault]:
    """Return a fault for each URL of an account that would send credentials in clear text to another host."""
    faults = []
    for name, account in accounts.items():
        for field, value in account:
            if field.endswith("_url") and isinstance(value, str) and _is_plain(value):
                variable = variable_name(provider, field)
                if name != DEFAULT:
                    variable = f"{FILE_VARIABLE} ({provider}.{name}.{field})"
                fix = "use https://, or set ALLOW_PLAIN_HTTP=1 outside production"
                faults.append(Fault(variable, "is http:// on a host other than loopback", fix))
    return faults


def _is_plain(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return False
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _default_account(
    provider: str, model: type[BaseModel], values: dict[str, str], spoilt: set[str]
) -> tuple[Accounts, list[Fault]]:
    mandatory = [variable_name(provider, name) for name, info in model.model_fields.items() if info.is_required()]
    given = {variable_name(provider, name) for name in values} | spoilt
    present = [variable for variable in mandatory if variable in given]
    try:
        return {DEFAULT: model.model_validate(values)}, []
    except ValidationError as error:
        faults = []
        for fault in faults_of(error, model, lambda field: variable_name(provider, field)):
            if fault.problem != "is missing":
                faults.append(fault)
            elif present:
                because = f"is missing, while {present[0]} is set"
                faults.append(Fault(fault.variable, because, fault.fix))
        return {}, faults


def _further_accounts(
    provider: str, model: type[BaseModel], entries: Mapping[str, Any], shared: Mapping[str, str]
) -> tuple[Accounts, list[Fault]]:
    accounts: Accounts = {}
    faults: list[Fault] = []
    for name, entry in entries.items():
        where = f"{FILE_VARIABLE} ({provider}.{name if _ACCOUNT_NAME.fullmatch(name) else '…'})"
        if not _ACCOUNT_NAME.fullmatch(name):
            faults.append(Fault(where, "has a bad name", "use 1 to 64 of A-Z a-z 0-9 . _ -"))
            continue
        if not isinstance(entry, dict):
            faults.append(Fault(where, "is not a JSON object", _SHAPE))
            continue
        brings_url = any(field.endswith("_url") for field in entry)
        inherited = {f: v for f, v in shared.items() if not (brings_url and f.endswith("_url"))}
        try:
            accounts[name] = model.model_validate({**inherited, **entry})
        except ValidationError as error:
            # A fault of an inherited value has been reported for its own variable already.
            faults += [
                Fault(where, _words(fault, model), fault.fix)
                for fault in faults_of(error, model, str)
                if fault.variable not in inherited or fault.variable in entry
            ]
    return accounts, faults


def _words(fault: Fault, model: type[BaseModel]) -> str:
    if fault.variable in model.model_fields:
        return f"{fault.variable} {fault.problem}"
    return unknown_field(fault.variable, model.model_fields)


def _parse_file(found: Content | None, models: Mapping[str, type[BaseModel]]) -> tuple[dict[str, Any], list[Fault]]:
    if found is None:
        return {}, []
    if isinstance(found, Unreadable):
        return {}, [found.fault(FILE_VARIABLE)]
    try:
        content = json.loads(found)
    except (ValueError, RecursionError):
        return {}, [Fault(FILE_VARIABLE, "is not JSON", _SHAPE)]
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        return {}, [Fault(FILE_VARIABLE, "has the wrong shape", _SHAPE)]
    known = ", ".join(models)
    return content, [
        Fault(FILE_VARIABLE, "names an unknown provider", f"use one of: {known}")
        for provider in content
        if provider not in models
    ]
