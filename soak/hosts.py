"""Several hosts: a worker that is cut off from Redis, and comes back."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from sandbox.environment import ROOT
from sandbox.processes import ChildEndedError, start, wait_for_line
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from soak.record import Plan, Record
from soak.stock import UnavailableError

_PATIENCE: Final = 120.0
#: Seconds.
_LEASE: Final = 3


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


RUNS: Final = {"cut-off": cut_off}
