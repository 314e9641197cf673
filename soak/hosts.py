"""Several hosts: a primary that dies under load and is replaced, and a worker that is cut off and comes back."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import redis
from redis.sentinel import Sentinel

from cardtoken.contract import Lane
from cardtoken.message import message_of, prepared
from sandbox.processes import ChildEndedError, start, wait_for_line
from sandbox.redis_server import RedisServer, find_server, free_port
from soak.record import Plan, Record
from soak.stock import UnavailableError
from tests.harness import ROOT, Service, Simulator, until

_NAME: Final = "mymaster"
_REPLICAS: Final = 2
_PATIENCE: Final = 120.0
#: Seconds.
_LEASE: Final = 3


class Cluster:
    """A primary, two replicas and three sentinels, on loopback."""

    def __init__(self, stack: ExitStack, **settings: str) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.servers = [stack.enter_context(RedisServer(appendonly=True, extra=settings))]
        primary = self.servers[0]
        for _ in range(_REPLICAS):
            extra = {**settings, "replicaof": f"127.0.0.1 {primary.port}"}
            self.servers.append(stack.enter_context(RedisServer(appendonly=True, extra=extra)))
        self.ports = []
        for number in range(3):
            port = free_port()
            config = folder / f"sentinel-{number}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor {_NAME} 127.0.0.1 {primary.port} 2\n"
                f"sentinel down-after-milliseconds {_NAME} 1000\n"
                f"sentinel failover-timeout {_NAME} 4000\n"
            )
            child = start(
                [find_server(), config, "--sentinel"], name=f"sentinel-{number}", log=folder / f"{number}.log"
            )
            stack.callback(child.stop)
            self.ports.append(port)
        self.url = ";".join(f"sentinel://127.0.0.1:{port}" for port in self.ports) + "/0"
        self.sentinel: Any = Sentinel([("127.0.0.1", port) for port in self.ports], socket_timeout=1.0)  # type: ignore[no-untyped-call]
        self.replicated()

    def primary(self) -> RedisServer:
        """The server that is the primary now, by the word of the sentinels."""

        def asked() -> RedisServer | None:
            with suppress(redis.RedisError):
                _, port = self.sentinel.discover_master(_NAME)
                return next(each for each in self.servers if each.port == port)
            return None

        return until(asked, 60, 0.1)

    def replicated(self) -> None:
        """Wait until both replicas follow, and every sentinel knows of them and of the others."""

        def so() -> bool | None:
            with suppress(redis.RedisError, StopIteration):
                told = self.sentinel.sentinels[0].sentinel_masters()[_NAME]
                client = redis.Redis(port=self.primary().port or 0)
                following: Any = client.info("replication")
                states = [following.get(f"slave{number}", {}).get("state") for number in range(_REPLICAS)]
                known = (told["num-other-sentinels"], told["num-slaves"])
                if states == ["online"] * _REPLICAS and known == (2, _REPLICAS):
                    return True
            return None

        until(so, 60, 0.2)

    def kill_primary(self) -> RedisServer:
        """Kill it, and wait until another one has taken its place; answers the killed one."""
        killed = self.primary()
        killed.kill()
        until(lambda: True if self.primary() is not killed else None, 60, 0.1)
        return killed


class _Producer:
    """Pushes one lookup after the other, and remembers those whose push Redis confirmed.

    ``wait``: confirmed is what both replicas have, too (WAIT). One would not do: the other one may become the primary.
    """

    def __init__(self, cluster: Cluster, *, wait: bool) -> None:
        self._client: Any = cluster.sentinel.master_for(_NAME, socket_timeout=1.0)
        self._wait = wait
        self.pushed = 0
        self.confirmed: list[str] = []
        self.doubtful: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.002):
            name = f"lookup-{uuid.uuid4().hex}"
            request = prepared({"opay_token": f"OPAY_TOKEN_visa~{name}", "lookup_id": name}, datetime.now(UTC))
            message = message_of([request], Lane.BULK, str(uuid.uuid4()))
            try:
                connection = self._client.connection_pool.get_connection()
                try:
                    connection.send_command("LPUSH", message.queue, message.entry)
                    connection.read_response()
                    self.pushed += 1
                    copies = _REPLICAS
                    if self._wait:
                        connection.send_command("WAIT", _REPLICAS, 200)
                        copies = connection.read_response()
                finally:
                    self._client.connection_pool.release(connection)
                (self.confirmed if copies == _REPLICAS else self.doubtful).append(name)
            except (redis.RedisError, OSError):
                self.doubtful.append(name)

    def end(self) -> None:
        self._stopping.set()
        self._thread.join(10)


def _failovers(plan: Plan, *, wait: bool) -> dict[str, Any]:
    kills = plan.of(5, 1)
    chance = plan.chance("failover", wait)
    with ExitStack() as stack:
        settings = {"min-replicas-to-write": "1", "min-replicas-max-lag": "5"} if wait else {}
        cluster = Cluster(stack, **settings)
        simulator = stack.enter_context(Simulator())
        simulator.behave(latency=0.05)
        service = Service(cluster.servers[0], simulator)
        environment = {"REDIS_URL": cluster.url, "REDIS_SENTINEL_MASTER": _NAME, "LEASE_SECONDS": str(_LEASE)}
        workers = [stack.enter_context(service.worker("-Q", "lookup.opay.bulk", **environment)) for _ in range(2)]
        producer = _Producer(cluster, wait=wait)
        stack.callback(producer.end)
        longest = 0.0
        for number in range(kills):
            time.sleep(1 + chance.random() * 2)
            begun, before = time.monotonic(), producer.pushed
            killed = cluster.kill_primary()
            before = max(before, producer.pushed)
            until(lambda before=before: True if producer.pushed > before else None, 60)  # type: ignore[misc]
            longest = max(longest, time.monotonic() - begun)
            killed.start()
            cluster.replicated()
            plan.progress(number + 1, kills, "failovers")
        time.sleep(1)
        producer.end()
        client: Any = redis.Redis(port=cluster.primary().port or 0)

        def results() -> Counter[str]:
            return Counter(fields[b"lookup_id"].decode() for _, fields in client.xrange("token-records:default"))

        def idle() -> bool | None:
            left = client.llen("lookup.opay.bulk") + client.zcard("lookup:leases")
            return True if not left else None

        until(idle, _PATIENCE, 0.2)
        found = results()
        ended = [worker.lines[-1] for worker in workers if worker.child.poll() is not None]
    confirmed = set(producer.confirmed)
    return {
        "failovers": kills,
        "confirmed": len(confirmed),
        "lost": len(confirmed - found.keys()),
        "second results": sum(found.values()) - len(found),
        "workers that ended": "; ".join(ended) or "none",
        "longest until pushed again s": round(longest, 1),
    }


def failover(plan: Plan) -> Record:
    """The primary is killed under load and a replica takes over: with WAIT nothing confirmed is lost."""
    runs = {"with WAIT": _failovers(plan, wait=True)}
    if plan.scale >= 1:  # for comparison, where there is time for it
        runs["plain"] = _failovers(plan, wait=False)
    return Record(
        goal="with WAIT and min-replicas-to-write nothing lost; no second result and no worker ended either way",
        passed=not runs["with WAIT"]["lost"]
        and all(not run["second results"] and run["workers that ended"] == "none" for run in runs.values()),
        done={"failovers": sum(run["failovers"] for run in runs.values())},
        figures={f"{way}: {name}": figure for way, run in runs.items() for name, figure in run.items()},
    )


class Host:
    """A host of its own, which reaches this one under two addresses.

    It is the network namespace of a process, and goes with it however a run ends; addresses that are still taken (the
    kernel keeps the namespace while it retries what was being sent) are left alone.
    Raises UnavailableError where there are no such namespaces.
    """

    def __init__(self, stack: ExitStack) -> None:
        if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
            raise UnavailableError("needs root, iproute2 and util-linux, for network namespaces")
        holder = start(["unshare", "--net", "sh", "-c", "echo up; exec sleep infinity"], name="host")
        stack.callback(holder.stop)
        try:
            wait_for_line(holder, "^up$", 10)
        except ChildEndedError as error:
            raise UnavailableError(f"no network namespaces here: {error}") from error
        self.enter = ["nsenter", "--net", f"--target={holder.pid}"]
        near, far = f"near{holder.pid}", f"far{holder.pid}"
        taken = self._ip("-4 -oneline address show")
        candidates = (f"10.213.{(holder.pid + number) % 256}" for number in range(256))
        network = next(each for each in candidates if f" {each}." not in taken)
        self.redis, self.provider = f"{network}.1", f"{network}.2"
        self._ip(f"link add {near} type veth peer name {far} netns {holder.pid}")
        self._ip(f"address add {self.redis}/24 dev {near}")
        self._ip(f"address add {self.provider}/24 dev {near}")
        self._ip(f"link set {near} up")
        self._ip(f"address add {network}.9/24 dev {far}", self.enter)
        self._ip(f"link set {far} up", self.enter)
        self._ip("link set lo up", self.enter)

    @staticmethod
    def _ip(command: str, enter: Sequence[str] = ()) -> str:
        done = subprocess.run([*enter, "ip", *command.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"no network namespaces here: ip {command}: {done.stderr.strip()}")
        return done.stdout

    def cut_off(self) -> None:
        """Packets to Redis go nowhere from now on; the provider is still reached."""
        self._ip(f"route add blackhole {self.redis}", self.enter)

    def reconnect(self) -> None:
        self._ip(f"route del blackhole {self.redis}", self.enter)


def cut_off(plan: Plan) -> Record:
    """A worker on a host of its own is cut off from Redis past its lease: nothing lost, nothing twice."""
    cuts, each = plan.of(10, 1), 40
    with ExitStack() as stack:
        host = Host(stack)
        server = stack.enter_context(
            RedisServer(extra={"bind": f"127.0.0.1 {host.redis}", "protected-mode": "no"}, appendonly=True)
        )
        simulator = stack.enter_context(Simulator("--host", host.provider))
        simulator.behave(latency=0.5)
        service = Service(server, simulator, LEASE_SECONDS=str(_LEASE), ALLOW_PLAIN_HTTP="1")
        far = {**service.environment, "REDIS_URL": f"redis://{host.redis}:{server.port}/0"}
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-l", "INFO", "-n", "far@test",
                   "-Q", "lookup.opay.bulk", "--without-mingle"]  # fmt: skip
        worker = start([*host.enter, *command], name="far", env=far, cwd=ROOT)
        stack.callback(worker.stop)
        wait_for_line(worker, r" ready\.", 60)
        sent: list[str] = []
        with service.worker("-Q", "lookup.opay.bulk", "-c", "2") as near:
            for cut in range(cuts):
                for _ in range(each):
                    request = {"opay_token": f"OPAY_TOKEN_visa~{len(sent)}", "lookup_id": f"cut-{len(sent)}"}
                    sent.append(request["lookup_id"])
                    service.send("opay", [request], lane="bulk")
                time.sleep(0.2)
                host.cut_off()  # the provider still answers what was begun
                time.sleep(_LEASE + 3)
                host.reconnect()
                plan.progress(cut + 1, cuts, "cut off and back")
                time.sleep(1)

            def results() -> Counter[str]:
                return Counter(entry["lookup_id"] for entry in service.entries("token-records:default"))

            until(lambda: True if results().keys() >= set(sent) else None, _PATIENCE, 0.3)
            taken_over = sum("died or froze went back" in line for line in near.lines)
            until(lambda: True if not service.redis.zcard("lookup:leases") else None, _PATIENCE, 0.3)
            time.sleep(2)
            found = results()
        alive = worker.poll() is None
    return Record(
        goal="0 lost, 0 second results, the worker goes on by itself",
        passed=not set(sent) - found.keys() and found.total() == len(found) and alive and taken_over > 0,
        done={"cuts": cuts, "lookups": len(sent)},
        figures={
            "lost": len(set(sent) - found.keys()),
            "second results": found.total() - len(found),
            "times that work was taken over": taken_over,
        },
    )


RUNS: Final = {"failover": failover, "cut-off": cut_off}
