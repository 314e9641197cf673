"""A Redis that refuses for a while is waited for, and the log says so once; one that refuses us for good is not."""

import logging
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.processes import wait_for_line
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator, WorkerProcess
from sandbox.waiting import until
from tasks.startup import StartupError, check_redis

INFO = b"redis_version:7.2.4\r\nmaxmemory_policy:noeviction\r\n"

PASSING = [
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN The cluster is down",
    "ERR max number of clients reached",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
]
FINAL = [
    "NOPERM this user has no permissions to run the 'info' command",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "ERR unknown command 'INFO'",
]

#: redis-py makes connection errors of some of them, and would try those again by itself.
ONCE = Retry(NoBackoff(), 0)


@contextmanager
def refusing(words: str, times: int) -> Iterator[int]:
    """A server that answers INFO with an error so many times. The port."""
    left = [times]

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                parts: Sequence[bytes] = [
                    self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))
                ]
                if parts[0].upper() != b"INFO":
                    self.wfile.write(b"+OK\r\n" if parts[0].upper() != b"HELLO" else b"-ERR unknown command\r\n")
                elif left[0]:
                    left[0] -= 1
                    self.wfile.write(b"-" + words.encode() + b"\r\n")
                else:
                    self.wfile.write(b"$%d\r\n%b\r\n" % (len(INFO), INFO))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("words", PASSING, ids=lambda words: words.split()[0])
def test_a_refusal_that_passes_is_waited_for(words: str, caplog: pytest.LogCaptureFixture) -> None:
    with refusing(words, 2) as port, redis.Redis(port=port, protocol=2, retry=ONCE) as client:
        with caplog.at_level(logging.WARNING, "tasks.startup"):
            check_redis(client, "here")
        assert len(caplog.records) == 1


@pytest.mark.parametrize("words", FINAL, ids=lambda words: words.split()[0])
def test_a_refusal_for_good_is_not(words: str) -> None:
    with (
        refusing(words, 100) as port,
        redis.Redis(port=port, protocol=2, retry=ONCE) as client,
        pytest.raises(StartupError, match="Redis at here"),
    ):
        check_redis(client, "here")


def looks(service: Service) -> int:
    """Return how often Redis was asked for its settings."""
    return int(service.redis.info("commandstats")["cmdstat_info"]["calls"])


def test_a_full_redis_is_told_once_at_the_start_and_at_a_reconnection(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        service.redis.config_set("maxmemory", 1024)
        worker = WorkerProcess(service.environment)
        wait_for_line(worker.child, "Redis takes no writes", 40)
        looked = looks(service)
        until(lambda: True if looks(service) >= looked + 2 else None)  # each time it could say so again
        assert worker.log.count("maxmemory") == 1
        service.redis.config_set("maxmemory", 0)
        worker.ready()
        said = len(worker.lines)
        service.redis.config_set("maxmemory", 1024)
        for client in service.redis.client_list():
            if client["cmd"] != "client|list":
                service.redis.client_kill_filter(_id=client["id"])
        until(lambda: True if any("Connected to redis" in line for line in worker.lines[said:]) else None)
        time.sleep(1.5)
        assert sum("Redis takes no writes" in line for line in worker.lines[said:]) <= 1
        assert len(worker.lines) - said < 12, "\n".join(worker.lines[said:])
        service.redis.config_set("maxmemory", 0)
        sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}])
        assert service.results(sent, 1)[0]["status"] == "found"
        assert worker.stop() == 0
