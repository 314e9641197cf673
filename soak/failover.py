"""A primary that dies or hangs under load, and is replaced by a replica."""

import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import redis
from redis.sentinel import Sentinel

from cardtoken.contract import Lane
from cardtoken.message import message_of, prepared
from sandbox.processes import start
from sandbox.redis_server import RedisServer, find_server, free_port
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from soak.record import Plan, Record
from soak.silence import PROMISED

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
                seen = self.sentinel.sentinels[0].sentinel_masters()[_NAME]
                client = redis.Redis(port=self.primary().port or 0)
                following: Any = client.info("replication")
                states = [following.get(f"slave{number}", {}).get("state") for number in range(_REPLICAS)]
                known = (seen["num-other-sentinels"], seen["num-slaves"])
                if states == ["online"] * _REPLICAS and known == (2, _REPLICAS):
                    return True
            return None

        until(so, 60, 0.2)

    def lose_primary(self, *, hang: bool) -> RedisServer:
        """Kill it, or let it hang, and wait until another one has taken its place; returns the lost one."""
        lost = self.primary()
        lost.pause() if hang else lost.kill()
        until(lambda: True if self.primary() is not lost else None, 60, 0.1)
        return lost


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
                except BaseException:
                    connection.disconnect()  # redis-py does not, with Sentinel: the next push would read this answer
                    raise
                finally:
                    self._client.connection_pool.release(connection)
                (self.confirmed if copies == _REPLICAS else self.doubtful).append(name)
            except (redis.RedisError, OSError):
                self.doubtful.append(name)

    def end(self) -> None:
        self._stopping.set()
        self._thread.join(10)


def _failovers(plan: Plan, *, wait: bool, hang: bool = False) -> dict[str, Any]:
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
        longest = answered = 0.0
        for number in range(kills):
            time.sleep(1 + chance.random() * 2)
            begun, before = time.monotonic(), producer.pushed
            lost = cluster.lose_primary(hang=hang)
            promoted, before = time.monotonic(), max(before, producer.pushed)
            until(lambda before=before: True if producer.pushed > before else None, 60)  # type: ignore[misc]
            longest = max(longest, time.monotonic() - begun)
            _answers(cluster)
            answered = max(answered, time.monotonic() - promoted)
            lost.resume() if hang else lost.start()
            cluster.replicated()
            plan.progress(number + 1, kills, "failovers")
        time.sleep(1)
        producer.end()
        client: Any = redis.Redis(port=cluster.primary().port or 0)

        def results() -> Counter[str]:
            return Counter(fields[b"lookup_id"].decode() for _, fields in client.xrange("token-records:default"))

        def idle() -> bool | None:
            waiting = client.llen("lookup.opay.bulk") + client.llen("lookup:given-back:lookup.opay.bulk")
            left = waiting + client.zcard("lookup:leases") + client.zcard("lookup:delayed:lookup.opay.bulk")
            return True if not left else None

        until(idle, _PATIENCE, 0.2)
        found, quarantined = results(), client.xlen("lookup:quarantine")
        ended = [worker.lines[-1] for worker in workers if worker.child.poll() is not None]
    confirmed = set(producer.confirmed)
    return {
        "failovers": kills,
        "confirmed": len(confirmed),
        "lost": len(confirmed - found.keys()),
        "in quarantine": quarantined,
        "second results": sum(found.values()) - len(found),
        "workers that ended": "; ".join(ended) or "none",
        "longest until pushed again s": round(longest, 1),
        "longest from promotion until answered s": round(answered, 1),
    }


def _answers(cluster: Cluster) -> None:
    """Wait until the primary gets results that it did not have."""
    with redis.Redis(port=cluster.primary().port or 0) as client:
        had = client.xlen("token-records:default")
        until(lambda: True if client.xlen("token-records:default") > had else None, _PATIENCE)


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


def hung_primary(plan: Plan) -> Record:
    """The primary hangs under load and a replica takes over: with WAIT nothing confirmed is lost, work goes on soon."""
    run = _failovers(plan, wait=True, hang=True)
    answered = run["longest from promotion until answered s"]
    return Record(
        goal=f"nothing lost, no second result, no worker ended, answered within {PROMISED:g} s of the promotion",
        passed=not run["lost"]
        and not run["second results"]
        and run["workers that ended"] == "none"
        and answered <= PROMISED,
        done={"failovers": run["failovers"]},
        figures=run,
    )


RUNS: Final = {"failover": failover, "hung-primary": hung_primary}
