"""The ports and the settings of what `make demo` and `make up` start, whatever else is set on this machine."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from sandbox.redis_server import port_or_another

ROOT: Final = Path(__file__).parent.parent
#: What listens where, if the port is free. Redis is not at 6379, so that it is taken for no other on this machine.
REDIS_PORT: Final = 6390
SIMULATOR_PORT: Final = 8090
FLOWER_PORT: Final = 5555
INTERACTIVE_METRICS_PORT: Final = 9808
BULK_METRICS_PORT: Final = 9809


@dataclass(frozen=True)
class Ports:
    """The ports of a sandbox on 127.0.0.1."""

    redis: int
    simulator: int
    flower: int
    interactive_metrics: int
    bulk_metrics: int
    #: Those that were taken, each with what it is for.
    taken: tuple[str, ...]

    @classmethod
    def choose(cls, *, usual: bool = True) -> Self:
        """The usual ports, another one in place of each that is taken; all of them free ones where not `usual`."""
        wanted = {
            "redis": REDIS_PORT,
            "simulator": SIMULATOR_PORT,
            "flower": FLOWER_PORT,
            "interactive_metrics": INTERACTIVE_METRICS_PORT,
            "bulk_metrics": BULK_METRICS_PORT,
        }
        found = {name: port_or_another(port if usual else 0) for name, port in wanted.items()}
        taken = tuple(
            f"port {port} ({name.replace('_', ' ')}) is taken: {found[name]} instead"
            for name, port in wanted.items()
            if usual and found[name] != port
        )
        return cls(**found, taken=taken)


def environment(redis_url: str, providers_url: str, folder: str) -> dict[str, str]:
    """A worker's, with the sample credentials of the providers' public documentation and files for secrets.

    Nothing of the settings that this process was given is in it but LOG_FORMAT. Processes that run in ``folder`` find
    the code of this repository, and not its ``.env``.
    """
    secrets = {
        "OPAY_PRIVATE_KEY": "OPAYPRV16160617080050.388604510744898",
        "AFTERPAY_CLIENT_SECRET": "merchantABC",
    }
    for name, value in secrets.items():
        Path(folder, name).write_text(value, encoding="utf-8")
    ours = re.compile(rf"({'|'.join(_settings())})(_FILE)?")
    return {
        **{name: value for name, value in os.environ.items() if not ours.fullmatch(name)},
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # In a container many are root; here that is no danger.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
        # Their standard error is a pipe.
        "LOG_FORMAT": os.environ.get("LOG_FORMAT") or "console",
        "REDIS_URL": redis_url,
        "OPAY_BASE_URL": providers_url,
        "OPAY_MERCHANT_ID": "256612345678901",
        "AFTERPAY_BASE_URL": providers_url,
        "AFTERPAY_CLIENT_ID": "afterpay",
        "RETRY_BASE_DELAY": "0.4",
        "RETRY_MAX_ATTEMPTS": "4",
        **{f"{name}_FILE": str(Path(folder, name)) for name in secrets},
    }


def _settings() -> list[str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return re.findall(r"^([A-Z_0-9]+)=", text, re.MULTILINE)
