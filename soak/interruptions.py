"""The command line's long job, interrupted."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from sandbox.environment import ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from soak.record import Plan, Record

_LATENCY: Final = 0.05
_PATIENCE: Final = 300.0


def bulk(plan: Plan) -> Record:
    """`cardtoken bulk` is killed, stopped by Ctrl-C, and goes on until its file of references is done."""
    count = plan.of(20_000, 500)
    references = [f"OPAY_TOKEN_visa~bulk-{plan.seed}-{number}" for number in range(count)]
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(appendonly=True) as server,
        Simulator("--latency", str(_LATENCY)) as simulator,
    ):
        source, out = Path(folder, "references.txt"), Path(folder, "records.jsonl")
        source.write_text("\n".join(references), encoding="utf-8")
        service = Service(server, simulator)
        with service.worker():
            # At a third and at two thirds of the work.
            for number, how in ((1, signal.SIGKILL), (2, signal.SIGINT)):
                plan.progress(number, 3, "until it is interrupted")
                _run(service, source, out, how, count * number // 3)
            plan.progress(3, 3, "to the end")
            status = _run(service, source, out, None, count + 1)
        asked = simulator.stats()["requests"].get("opay", 0)
        written = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        lines = Counter(json.loads(line)["line"] for line in written)
    exact = lines == Counter(range(1, count + 1))
    return Record(
        goal="each asked for once, each written once",
        passed=exact and asked == count and status == 0,
        done={"references": count, "interruptions": 2},
        figures={"asked": asked, "written": sum(lines.values()), "different ones": len(lines)},
    )


def _run(service: Service, source: Path, out: Path, how: signal.Signals | None, until: int) -> int:
    """Run it, up to so many lines in its journal where it is to be interrupted; return its exit status."""
    command = [sys.executable, "-m", "cardtoken", "bulk", str(source), "--provider", "opay", "--out", str(out)]
    journal = out.with_name(f"{out.name}.partial")
    with subprocess.Popen(
        command, cwd=ROOT, env=service.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        end = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < end:
            if how is not None and journal.exists() and journal.read_bytes().count(b"\n") > until:
                process.send_signal(how)
                break
            time.sleep(0.05)
        return process.wait(_PATIENCE)


RUNS: Final = {"bulk": bulk}
