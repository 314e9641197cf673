"""Build the images, start docker-compose.yml as docs/compose.md says, and run tests/containers against it.

What is given on the command line is pytest's, as in: python -m tools.containers -k health
"""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Final

from tools import debian
from tools.containers import images, pods, project
from tools.containers.engine import Engine, EngineError

_CHECKOUT: Final = Path(__file__).parents[2]
#: First what finds the containers as they were started, last what stops Redis.
_ORDER: Final = ("lookups", "confinement", "ending", "frozen_redis")
#: Seconds that all of it may take; five times what it does.
_PATIENCE: Final = 1200


def main(arguments: list[str]) -> int:
    """Return pytest's exit status, or 1 where it did not come to that."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end)
    signal.alarm(_PATIENCE)
    try:
        return _run(arguments)
    except (debian.DebianError, EngineError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what it had started and made is removed\n")
        return 130


def _run(arguments: list[str]) -> int:
    debian.need_root("An engine of containers, to try the images with,")
    began = time.monotonic()

    def say(what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:5.0f} s  {what}\n")
        sys.stdout.flush()

    cache = debian.cache("containers")
    with ThreadPoolExecutor(1) as pool:
        root = pool.submit(images.base, cache)
        podman = pool.submit(pods.root, cache)
        with Engine(cache) as engine:
            say("an engine runs")
            images.load(engine, root.result(), _CHECKOUT)
            say(f"images of Debian {images.SUITE} stand for {' and '.join(images.names(_CHECKOUT))}")
            if newer := images.newer_python(root.result(), _CHECKOUT):
                say(f"the Dockerfile is behind: Debian {images.SUITE} has Python {newer}")
            app = project.copy(_CHECKOUT, engine.folder / "checkout", images.names(_CHECKOUT)[-1])
            engine.output(("sh", "deploy/secrets.sh", "--simulator"), folder=app)
            project.add_dollars(app)
            # One after the other: the second takes what the first has built.
            limit = {"COMPOSE_PARALLEL_LIMIT": "1"}
            engine.output(("docker-compose", "build", "-q"), folder=app, timeout=300, more=limit)
            say("the images are built")
            engine.output(("docker-compose", "up", "--wait", "-d"), folder=app, timeout=180)
            say("all containers are healthy")
            tests = [f"tests/containers/test_{name}.py" for name in _ORDER]
            command = [sys.executable, "-m", "pytest", "-m", "containers", "-q", "--durations=5", *tests]
            environment = {**engine.environment, "CARDTOKEN_CONTAINERS": str(app)}
            status = subprocess.run([*command, *arguments], cwd=_CHECKOUT, env=environment, check=False).returncode
            say("the checks have ended")
            if not status and not arguments:
                used = ["cardtoken-worker", "cardtoken-simulator", images.names(_CHECKOUT)[-1]]
                status = pods.tried(engine, podman.result(), app, _CHECKOUT, used)
                say("the pods have ended")
    say("all is removed")
    return status


def _end(_: int, __: FrameType | None) -> None:
    # Once: what is begun then is the cleaning.
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
