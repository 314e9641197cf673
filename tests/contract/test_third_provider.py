"""A third provider, added by doing what docs/adding-a-provider.md says, in a copy of the project."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.environment import ROOT, clean_environment
from sandbox.processes import start, wait_for_line
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.browser.flower import Flower
from tests.telemetry.test_metrics import scraped, value

_COPIED = ("cardtoken", "config", "sandbox", "simulator", "tasks", "tests", "pyproject.toml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the guide followed: its blocks of Python, each where the heading before it says."""
    project = tmp_path_factory.mktemp("third") / "project"
    project.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(source, project)
    guide = (ROOT / "docs/adding-a-provider.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    model, listed, adapter, simulator, simulator_import, simulators = blocks
    (project / "tasks/providers/acme.py").write_text(adapter)
    (project / "simulator/acme.py").write_text(simulator)
    known = project / "cardtoken/providers.py"
    text = known.read_text().replace("@dataclass", f"{model}\n\n@dataclass", 1)
    known.write_text(re.sub(r"_ALL: .*?\n\)\n", lambda _: listed, text, flags=re.DOTALL))
    app = project / "simulator/app.py"
    text = app.read_text().replace(
        "from simulator.afterpay import Afterpay\n", f"{simulator_import}from simulator.afterpay import Afterpay\n"
    )
    app.write_text(re.sub(r"PROVIDERS: .*?\n\)\n", lambda _: simulators, text, flags=re.DOTALL))
    both = [str(each) for each in (ROOT / "tasks", project / "tasks")]
    command = ["diff", "-rq", "-x", "__pycache__", *both]
    changed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    assert changed == [f"Only in {project}/tasks/providers: acme.py"], "one module"
    return project


class CopiedService(Service):
    """Works in the copy."""

    def __init__(self, project: Path, server: RedisServer, simulator: Simulator) -> None:
        environment = {"ACME_API_KEY": "acme-key-1", "ACME_BASE_URL": simulator.url, "ACME_RATE_LIMIT": "500/s"}
        super().__init__(server, simulator, **environment)
        self.project = project


@pytest.fixture(scope="module")
def service(project: Path) -> Iterator[tuple[CopiedService, int]]:
    env = {**clean_environment(), "PYTHONPATH": str(project)}
    simulator = Simulator.__new__(Simulator)
    simulator.child = start([sys.executable, "-m", "simulator"], name="simulator", cwd=project, env=env)
    with RedisServer() as server, simulator:
        simulator.url = wait_for_line(simulator.child, r"listening on (\S+)", 20).group(1)
        service = CopiedService(project, server, simulator)
        service.environment["PYTHONPATH"] = str(project)
        port = free_port()
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-l", "INFO", "--without-mingle"]
        env = {**service.environment, "METRICS_PORT": str(port)}
        worker = start(command, name="worker", cwd=project, env=env)
        wait_for_line(worker, r" ready\.", 30)
        yield service, port
        assert worker.stop(20) == 0


def test_a_third_provider_has_its_task_queues_settings_and_metrics(service: tuple[CopiedService, int]) -> None:
    running, port = service
    names = ("visa", "timeout-1", "not-found", "unavailable-2", "malformed", "status-500", "hang-not-a-scenario")
    task_id = running.send("acme", [{"acme_token": f"{name}~a"} for name in names])
    results = running.results(task_id, len(names))
    assert [result["status"] for result in results] == [
        "found", "found", "not_found", "found", "failed", "failed", "not_found",
    ]  # fmt: skip
    assert results[0]["token"]["brand"] == "visa"
    assert results[1]["attempts"] == 2
    assert results[4]["error"]["category"] == "protocol"
    found = scraped(port)
    labels = {"provider": "acme", "lane": "interactive"}
    assert value(found, "cardtoken_lookups_total", **labels, status="found", category="", code="") == 3
    assert value(found, "cardtoken_retries_total", **labels, category="unavailable", code="TRY_LATER") == 3
    assert value(found, "cardtoken_permit_wait_seconds_count", **labels), "its rate limit holds"
    assert value(found, "cardtoken_circuit_state", provider="acme", account="default") == 0
    assert value(found, "cardtoken_queue_consumers", queue="lookup.acme.bulk") == 1


def test_a_third_provider_has_rows_in_flower(
    service: tuple[CopiedService, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = service
    monkeypatch.setattr("tests.browser.flower.ROOT", running.project)
    with Flower(running.environment, tmp_path) as flower:
        until(lambda: True if flower.get("/api/workers?refresh=1").json() else None)
        task_id = running.send("acme", [{"acme_token": "visa~f", "lookup_id": "order-1"}])
        until(lambda: True if flower.task(task_id).get("state") == "SUCCESS" else None)
        assert flower.task(task_id)["kwargs"] == "1 lookup · acme · default · ids order-1"


def test_a_third_provider_conforms(project: Path) -> None:
    suites = ["tests/unit/test_provider_conformance.py", "tests/unit/test_provider_answers.py"]
    env = {**clean_environment(), "PYTHONPATH": str(project)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "acme", *suites]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 8
