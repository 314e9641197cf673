"""Where values come from: the process environment over ``.env``, and ``X_FILE`` beside every secret ``X``."""

import os
from pathlib import Path
from typing import get_args

from dotenv import dotenv_values
from pydantic import BaseModel

from cardtoken.secret import Secret
from config.errors import Fault

DOTENV = ".env"


def variables() -> dict[str, str]:
    """Return all variables of ``.env`` and of the process environment, which wins. Empty ones count as not set."""
    return {
        name.upper(): value for source in (dotenv_values(DOTENV), os.environ) for name, value in source.items() if value
    }


def read_secret_files(model: type[BaseModel], prefix: str, given: dict[str, str]) -> list[Fault]:
    """Put into ``given``, for each secret field ``X`` of a model, the content of the file that ``X_FILE`` names.

    Return the faults: a file that cannot be read, is empty, or competes with the variable itself. One newline at the
    end belongs to the file and not to the secret.
    """
    faults: list[Fault] = []
    for field, info in model.model_fields.items():
        variable = variable_name(prefix, field)
        path = given.get(f"{variable}_FILE")
        if path is None or Secret not in (info.annotation, *get_args(info.annotation)):
            continue
        if variable in given:
            faults.append(Fault(f"{variable}_FILE", f"is set, and {variable} too", "set one of them"))
            continue
        try:
            value = Path(path).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            faults.append(Fault(f"{variable}_FILE", f"cannot be read: {reason}", "name a file that this user can read"))
            continue
        if value:
            given[variable] = value
        else:
            faults.append(Fault(f"{variable}_FILE", "names an empty file", "put the secret into it"))
    return faults


def variable_name(prefix: str, field: str) -> str:
    """Return the variable of a model's field: field ``merchant_id`` of provider ``opay`` is ``OPAY_MERCHANT_ID``."""
    return f"{prefix}_{field}".upper() if prefix else field.upper()
