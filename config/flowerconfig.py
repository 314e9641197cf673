"""Flower's settings, under Flower's own names: read by `celery -A tasks flower`.

The command line and FLOWER_ variables win over what is set here, with one exception: Flower does not start without a
login, unless it listens to this machine alone.
"""

import ipaddress
import os
import sys
from pathlib import Path

from tornado.options import options

from config import flower_events, flower_health
from config.errors import refuse


def _is_in_environment(name: str) -> bool:
    return f"FLOWER_{name.upper()}" in os.environ


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _logins() -> list[str]:
    path = os.environ.get("FLOWER_BASIC_AUTH_FILE")
    if not path:
        return list(options.basic_auth or [])
    try:
        return [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError):
        refuse("FLOWER_BASIC_AUTH_FILE cannot be read: name a file with a USER:PASSWORD on each line.")


def _state() -> str:
    """Return the file that keeps tasks across restarts. Only this user may write it: Flower reads it as a pickle."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111 - a home may be missing
    chosen = Path(options.db if _is_in_environment("db") or options.db != "flower" else f"{home}/cardtoken/flower")
    try:
        chosen.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(chosen.parent, os.W_OK):
            raise PermissionError
    except OSError:
        refuse(f"Flower cannot keep its tasks in {chosen.parent}: set FLOWER_DB to a file in a folder of its own.")
    return str(chosen)


if any(argument.replace("_", "-").startswith("--basic-auth") for argument in sys.argv):
    refuse("--basic-auth would show the password to every user who lists processes: set FLOWER_BASIC_AUTH instead.")

address = options.address or "127.0.0.1"
basic_auth = _logins()
if any(":" not in login or login.startswith(":") or login.endswith(":") for login in basic_auth):
    refuse("FLOWER_BASIC_AUTH must be USER:PASSWORD, or several with commas between them.")
if not (basic_auth or options.auth or options.unix_socket or _loopback(address)):
    refuse(
        f"Flower on {address} needs a login: set FLOWER_BASIC_AUTH to USER:PASSWORD, or FLOWER_ADDRESS to 127.0.0.1."
    )

# Looking is what it is for. Revoking, shutting down and the like: FLOWER_READ_ONLY=0, or the command line.
read_only = options.read_only if _is_in_environment("read_only") else True

if not _is_in_environment("tasks_columns"):
    tasks_columns = "name,state,kwargs,retries,exception,result,received,runtime,worker,uuid"

persistent = options.persistent if _is_in_environment("persistent") else True
db = _state() if persistent else options.db
state_save_interval = options.state_save_interval or 15_000
max_tasks = options.max_tasks if _is_in_environment("max_tasks") else 10_000
os.umask(0o077)

flower_events.mask()
flower_health.install()
