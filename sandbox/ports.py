"""The ports of what `make demo` and `make up` start."""

from dataclasses import dataclass
from typing import Final, Self

from sandbox.redis_server import port_or_another

#: Where each listens if its port is free. Redis is not at 6379, so that it is not mistaken for another on this machine.
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
