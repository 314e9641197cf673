"""Where values come from: the process environment over ``.env``, and ``X_FILE`` beside every secret ``X``."""

import os
from collections.abc import Mapping
from typing import get_args

from dotenv import dotenv_values
from pydantic import BaseModel

from cardtoken.secret import Secret
from config.errors import Fault
from config.files import Content, Unreadable

DOTENV = ".env"


def variables() -> dict[str, str]:
    """Return all variables of ``.env`` and of the process environment, which wins. Empty ones count as not set."""
    return {
        name.upper(): value for source in (dotenv_values(DOTENV), os.environ) for name, value in source.items() if value
    }


def secret_file_variables(model: type[BaseModel], prefix: str) -> list[str]:
    """Return the variable ``X_FILE`` of each secret field ``X`` of a model."""
    return [
        f"{variable_name(prefix, field)}_FILE"
        for field, info in model.model_fields.items()
        if Secret in (info.annotation, *get_args(info.annotation))
    ]


def put_secrets(
    model: type[BaseModel], prefix: str, given: dict[str, str], contents: Mapping[str, Content]
) -> list[Fault]:
    """Put into ``given``, for each secret field ``X`` of a model, the content of the file that ``X_FILE`` names.

    Return the faults: a file that cannot be read, is empty, or competes with the variable itself. One newline at the
    end belongs to the file and not to the secret.
    """
    faults: list[Fault] = []
    for file_variable in secret_file_variables(model, prefix):
        variable = file_variable.removesuffix("_FILE")
        content = contents.get(file_variable)
        if content is None:
            continue
        if variable in given:
            faults.append(Fault(file_variable, f"is set, and {variable} too", "set one of them"))
            continue
        if isinstance(content, Unreadable):
            faults.append(content.fault(file_variable))
            continue
        try:
            # As a text file is read: however its lines end.
            value = content.decode().replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
        except UnicodeDecodeError:
            faults.append(Unreadable("cannot be read: it is not UTF-8 text").fault(file_variable))
            continue
        if value.strip():
            given[variable] = value
        else:
            faults.append(Fault(file_variable, "names an empty file", "put the secret into it"))
    return faults


def variable_name(prefix: str, field: str) -> str:
    """Return the variable of a model's field: field ``merchant_id`` of provider ``opay`` is ``OPAY_MERCHANT_ID``."""
    return f"{prefix}_{field}".upper() if prefix else field.upper()
