"""A copy of the checkout in which docker-compose.yml is started as docs/compose.md says, but for the network."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

#: Every service shares one network namespace, which has loopback alone. Services that listen to the same port have
#: addresses of their own there. Health is checked more often, so that the tests wait less.
OVERRIDE: Final = """\
services:
  network:
    image: {image}
    entrypoint: [sleep, infinity]
    init: true
    network_mode: none
    extra_hosts: ["redis:127.0.0.1", "simulator:127.0.0.1", "interactive:127.0.0.2", "bulk:127.0.0.3"]
  redis:
    network_mode: "service:network"
  interactive:
    network_mode: "service:network"
    build: {{network: host}}
    environment: {{METRICS_HOST: 127.0.0.2, HEALTH_HOST: 127.0.0.2}}
    healthcheck: {{interval: 5s}}
  bulk:
    network_mode: "service:network"
    environment: {{METRICS_HOST: 127.0.0.3, HEALTH_HOST: 127.0.0.3}}
    healthcheck: {{interval: 5s}}
  flower:
    network_mode: "service:network"
    ports: !reset []
    healthcheck: {{interval: 3s}}
  cli:
    network_mode: "service:network"
  simulator:
    network_mode: "service:network"
    build: {{network: host}}
"""


def copy(checkout: Path, folder: Path, image: str) -> Path:
    """Copy what git knows of the checkout, as it is now, into a folder, with an override beside docker-compose.yml."""
    listed = subprocess.run(
        ("/usr/bin/git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = checkout / name
        if source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    (folder / "docker-compose.override.yml").write_text(OVERRIDE.format(image=image), encoding="utf-8")
    return folder


#: A key of an account that no lookup here uses, with all that Compose, a shell or a template would replace.
DOLLARS: Final = "a$b$$c${HOME}%{d}\\e"


def add_dollars(app: Path) -> None:
    """Give OPay an account `dollars` with such a key."""
    path = app / "deploy/secrets/provider_accounts.json"
    accounts = json.loads(path.read_text(encoding="utf-8"))
    accounts["opay"]["dollars"] = {"merchant_id": "256612345678902", "private_key": DOLLARS}
    path.write_text(json.dumps(accounts), encoding="utf-8")
