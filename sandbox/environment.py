"""The environments of processes on one machine, and the sample credentials in them."""

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from cardtoken.providers import PROVIDERS

ROOT: Final = Path(__file__).parent.parent
#: The samples of the providers' public documentation.
MERCHANT, PRIVATE_KEY = "256612345678901", "OPAYPRV16160617080050.388604510744898"
CLIENT, CLIENT_SECRET = "afterpay", "merchantABC"

#: The settings that a service under test must not inherit from the machine that runs it.
_OURS = (
    "REDIS_",
    *(f"{provider}_".upper() for provider in PROVIDERS),
    "HTTP_",
    "RETRY_",
    "RESULT_",
    "DEAD_LETTER_",
    "PROVIDER_",
    "SENTRY_",
    "LEASE_",
    "DELIVERY_",
    "FAULT_",
    "METRICS_",
    "LOG_",
    "FLOWER_",
)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what the service reads, and with defaults over what ``.env`` sets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, **_over_dotenv()}


@cache
def _over_dotenv() -> dict[str, str]:
    """Return the defaults of what the developer's own ``.env`` sets, where they have a value."""
    defaults = {**dotenv_values(ROOT / ".env.example"), "LOG_FORMAT": "json"}
    names = [name for name, value in dotenv_values(ROOT / ".env").items() if value]
    return {name: default for name in names if (default := defaults.get(name))}


def demo_environment(redis_url: str, providers_url: str, folder: str) -> dict[str, str]:
    """Return the environment of a worker in the demo: the sample credentials, with the secrets in files.

    Nothing of the settings that this process was given is in it but LOG_FORMAT. Processes that run in ``folder`` find
    the code of this repository, and not its ``.env``.
    """
    secrets = {
        "OPAY_PRIVATE_KEY": PRIVATE_KEY,
        "AFTERPAY_CLIENT_SECRET": CLIENT_SECRET,
    }
    for name, value in secrets.items():
        Path(folder, name).write_text(value, encoding="utf-8")
    ours = re.compile(rf"({'|'.join(_settings())})(_FILE)?")
    return {
        **{name: value for name, value in os.environ.items() if not ours.fullmatch(name)},
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # In a container many are root; here that is not dangerous.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
        # Their standard error is a pipe.
        "LOG_FORMAT": os.environ.get("LOG_FORMAT") or "console",
        "REDIS_URL": redis_url,
        "OPAY_BASE_URL": providers_url,
        "OPAY_MERCHANT_ID": MERCHANT,
        "AFTERPAY_BASE_URL": providers_url,
        "AFTERPAY_CLIENT_ID": CLIENT,
        "RETRY_BASE_DELAY": "0.4",
        "RETRY_MAX_ATTEMPTS": "4",
        **{f"{name}_FILE": str(Path(folder, name)) for name in secrets},
    }


def _settings() -> list[str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return re.findall(r"^([A-Z_0-9]+)=", text, re.MULTILINE)
