"""Two providers more, added as docs/adding-a-provider.md says, in a copy of the project: what it promises is there.

Acme is what ``make provider`` writes. Boreal is that with the modules of the guide's second example.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cardtoken.providers import PROVIDERS
from sandbox.environment import ROOT, clean_environment
from sandbox.processes import start, wait_for_line
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.browser.flower import Flower
from tests.telemetry.test_metrics import scraped, value

pytestmark = pytest.mark.skipif(
    not {"acme", "boreal"}.isdisjoint(PROVIDERS), reason="the providers of the guide are the project's own here"
)

_COPIED = (
    *("cardtoken", "config", "deploy", "docs", "sandbox", "simulator", "tasks", "tests", "tools"),
    *("pyproject.toml", ".env.example", "Procfile", "docker-compose.yml", "README.md"),
)
#: What a producer sends for each: provider, field, and what the worker's log and screens must not show.
_ADDED = {"acme": "acme_token", "boreal": "boreal_token"}
_KEYS = {"acme": "acme-key-1", "boreal": "boreal-key-1"}
#: The project's own tests that hold a provider to something, or a file to the providers that there are.
_HELD = (
    "acme or boreal or provider or example_environment or declared_queue or map_names or deployed_worker"
    " or scaled_by or documents_are or released or every_schema or refused_without"
)
_SUITES = (
    *("unit/test_acme.py", "unit/test_boreal.py", "unit/test_providers.py", "unit/test_client_message.py"),
    *("unit/test_provider_conformance.py", "unit/test_provider_answers.py", "unit/test_deployment.py"),
    *("unit/test_kubernetes.py", "unit/test_keda.py", "integration/test_systemd.py"),
    *("unit/test_architecture.py", "unit/test_documents.py", "contract/test_documents.py"),
)


def python(project: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**clean_environment(), "PYTHONPATH": str(project), **environment}
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=110, check=False)


def added(project: Path, name: str) -> None:
    done = python(project, "-m", "tools.provider", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"tasks/providers/{name}.py\n" in done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the guide followed."""
    project = tmp_path_factory.mktemp("third") / "project"
    project.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(source, project)
    for name in _ADDED:
        added(project, name)
    guide = (ROOT / "docs/adding-a-provider.md").read_text()
    modules = re.findall(r"`(\w+/\S*boreal\.py)`[^`]*:\n\n```python\n(.*?)```", guide, re.DOTALL)
    assert len(modules) == 3
    for path, source in modules:
        assert (project / path).is_file(), "the running start has it already"
        (project / path).write_text(source)
    return project


def test_a_provider_is_one_module_of_the_worker_and_a_line_of_the_contract(project: Path) -> None:
    for folder, expected in (
        ("tasks", [f"Only in {project}/tasks/providers: {name}.py" for name in _ADDED]),
        ("cardtoken", [f"Files {ROOT}/cardtoken/providers.py and {project}/cardtoken/providers.py differ"]),
        ("config", []),
    ):
        command = ["diff", "-rq", "-x", "__pycache__", str(ROOT / folder), str(project / folder)]
        changed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        assert changed == expected, folder


def test_what_the_scaffold_writes_is_as_tidy_as_the_rest(project: Path) -> None:
    for args in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = python(project, "-m", *args, "--no-cache", "cardtoken", "simulator", "tasks", "tests/unit", "tools")
        assert done.returncode == 0, done.stdout


def test_a_name_that_is_there_is_refused_and_nothing_written(project: Path) -> None:
    before = {path: path.read_text() for path in project.rglob("*.py")}
    done = python(project, "-m", "tools.provider", "acme")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"provider: the provider acme exists already; there are {', '.join([*PROVIDERS, *_ADDED])}\n"
    assert {path: path.read_text() for path in project.rglob("*.py")} == before


def test_the_scaffold_says_how_it_is_used(project: Path) -> None:
    done = python(project, "-m", "tools.provider", "--help")
    assert done.returncode == 0
    assert "make provider NAME=acme" in done.stdout


def test_the_projects_own_tests_pass_with_the_providers_added(project: Path) -> None:
    # What is tried with many answers is tried with the new providers alone; the others have not changed.
    chosen = f"({_HELD}) and not opay and not afterpay and not judge_requests"
    suites = [f"tests/{suite}" for suite in _SUITES]
    done = python(project, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, *suites)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 100


class CopiedService(Service):
    """Works in the copy."""

    def __init__(self, project: Path, server: RedisServer, simulator: Simulator) -> None:
        environment = {"PYTHONPATH": str(project), "ACME_RATE_LIMIT": "500/s"}
        for name, key in _KEYS.items():
            environment |= {f"{name}_API_KEY".upper(): key, f"{name}_BASE_URL".upper(): simulator.url}
        super().__init__(server, simulator, **environment)
        self.project = project

    def cardtoken(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The command line of the copy."""
        return python(self.project, "-m", "cardtoken", *args, REDIS_URL=self.server.url)


@pytest.fixture(scope="module")
def running(project: Path) -> Iterator[tuple[CopiedService, int, list[str]]]:
    """The service, the port of the worker's metrics, and its log."""
    env = {**clean_environment(), "PYTHONPATH": str(project)}
    simulator = Simulator.__new__(Simulator)
    simulator.child = start([sys.executable, "-m", "simulator"], name="simulator", cwd=project, env=env)
    with RedisServer() as server, simulator:
        simulator.url = wait_for_line(simulator.child, r"listening on (\S+)", 20).group(1)
        service = CopiedService(project, server, simulator)
        port, lines = free_port(), list[str]()
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-l", "DEBUG", "--without-mingle"]
        env = {**service.environment, "METRICS_PORT": str(port)}
        worker = start(command, name="worker", cwd=project, env=env, on_line=lines.append)
        wait_for_line(worker, r" ready\.", 30)
        yield service, port, lines
        assert worker.stop(20) == 0


@pytest.mark.parametrize(("name", "field"), _ADDED.items())
def test_its_lookups_end_as_those_of_any_provider(
    running: tuple[CopiedService, int, list[str]], name: str, field: str
) -> None:
    service, port, lines = running
    scenarios = ("visa", "timeout-1", "not-found", "unavailable-2", "malformed", "status-500", "hang-not-a-scenario")
    task_id = service.send(name, [{field: f"{scenario}~canary a"} for scenario in scenarios])
    results = service.results(task_id, len(scenarios))
    assert [result["status"] for result in results] == [
        "found", "found", "not_found", "found", "failed", "failed", "not_found",
    ]  # fmt: skip
    assert results[0]["token"]["brand"] == "visa"
    assert results[1]["attempts"] == 2
    assert results[4]["error"]["category"] == "protocol"
    found = scraped(port)
    labels = {"provider": name, "lane": "interactive"}
    assert value(found, "cardtoken_lookups_total", **labels, status="found", category="", code="") == 3
    assert value(found, "cardtoken_circuit_state", provider=name, account="default") == 0
    assert value(found, "cardtoken_queue_consumers", queue=f"lookup.{name}.bulk") == 1
    if name == "acme":
        assert value(found, "cardtoken_retries_total", **labels, category="unavailable", code="TRY_LATER") == 3
        assert value(found, "cardtoken_permit_wait_seconds_count", **labels), "its rate limit holds"
    log = "\n".join(lines)
    for secret in (_KEYS[name], "canary%20a", "canary+a", "canary a"):
        assert secret not in log


def test_it_is_in_both_clients(running: tuple[CopiedService, int, list[str]]) -> None:
    service, _, _ = running
    script = """
import asyncio, json, sys, cardtoken

async def twin(request):
    async with cardtoken.AsyncClient(sys.argv[1]) as client:
        return await client.lookup(request)

with cardtoken.Client(sys.argv[1]) as client:
    model = cardtoken.AcmeRequest.model_validate({"acme_token": "visa"})
    results = [client.lookup(model), client.lookup({"boreal_token": "mastercard"})]
    results.append(asyncio.run(twin({"acme_token": "amex"})))
    print(json.dumps([[each.provider, each.token.brand] for each in results]))
    print(client.enqueue_many([{"boreal_token": "visa"}, {"acme_token": "visa"}], reply_to="many"))
"""
    done = python(service.project, "-c", script, service.server.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0]) == [["acme", "visa"], ["boreal", "mastercard"], ["acme", "amex"]]
    assert len(until(lambda: found if len(found := service.entries("token-records:many")) == 2 else None)) == 2


def test_it_is_on_the_command_line(running: tuple[CopiedService, int, list[str]], tmp_path: Path) -> None:
    service, _, _ = running
    looked_up = service.cardtoken("lookup", "boreal", "visa", "--json")
    assert (looked_up.returncode, json.loads(looked_up.stdout)["provider"]) == (0, "boreal"), looked_up.stderr
    tokens, records = tmp_path / "tokens.txt", tmp_path / "records.jsonl"
    tokens.write_text("visa\nmastercard\n")
    bulk = service.cardtoken("bulk", str(tokens), "--provider", "acme", "--out", str(records))
    assert bulk.returncode == 0, bulk.stderr
    assert [json.loads(line)["provider"] for line in records.read_text().splitlines()] == ["acme"] * 2
    completion = python(
        service.project,
        *("-m", "cardtoken"),
        _CARDTOKEN_COMPLETE="bash_complete",
        COMP_WORDS="cardtoken lookup ",
        COMP_CWORD="2",
    )
    assert completion.stdout.split() == [f"plain,{name}" for name in (*PROVIDERS, *_ADDED)]
    status = json.loads(service.cardtoken("status", "--json").stdout)
    queues = {queue["name"]: queue["workers"] for queue in status["queues"]}
    assert [queues[f"lookup.{name}.{lane}"] for name in _ADDED for lane in ("interactive", "bulk")] == [1] * 4


def test_its_circuits_are_held_and_closed(running: tuple[CopiedService, int, list[str]]) -> None:
    service, _, _ = running
    opened = service.cardtoken("circuit", "open", "boreal", "--for", "1m", "--reason", "a test")
    assert opened.returncode == 0, opened.stderr
    assert service.redis.zscore("lookup:circuits:forced", "boreal:*")
    assert service.cardtoken("circuit", "close", "boreal").returncode == 0


def test_its_dead_letters_are_listed_and_replayed(running: tuple[CopiedService, int, list[str]]) -> None:
    service, _, _ = running
    for name, field in _ADDED.items():
        task_id = service.send(name, [{field: "malformed~letter", "reply_to": name}], lane="bulk")
        chosen = ("--provider", name, "--task-id", task_id)
        until(lambda: task_id in str(service.redis.xrange("lookup:dead-letters")) or None)  # noqa: B023
        if name == "acme":
            listed = service.cardtoken("dead-letters", "list", *chosen, "--json")
            assert json.loads(listed.stdout)["task_id"] == task_id
        replayed = service.cardtoken("dead-letters", "replay", *chosen, "--yes")
        assert (replayed.returncode, replayed.stdout) == (0, "1 replayed\n"), replayed.stderr

        def again(stream: str = f"token-records:{name}", before: str = task_id) -> Any:
            results = [json.loads(entry["result"]) for entry in service.entries(stream)]
            return next((each for each in results if each["replay_of"] == before), None)

        assert until(again)["provider"] == name


def test_its_documents_are_made(project: Path) -> None:
    for name, field in _ADDED.items():
        schema = json.loads((project / f"docs/schemas/{name}-request.schema.json").read_text())
        assert schema["required"] == [field]
    channels = json.loads((project / "docs/schemas/asyncapi.json").read_text())["channels"]
    assert channels["borealBulk"]["address"] == "lookup.boreal.bulk"


def test_it_has_rows_in_flower(
    running: tuple[CopiedService, int, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, _, _ = running
    monkeypatch.setattr("tests.browser.flower.ROOT", service.project)
    with Flower(service.environment, tmp_path) as flower:
        until(lambda: True if flower.get("/api/workers?refresh=1").json() else None)
        task_id = service.send("acme", [{"acme_token": "visa~f", "lookup_id": "order-1"}])
        until(lambda: True if flower.task(task_id).get("state") == "SUCCESS" else None)
        assert flower.task(task_id)["kwargs"] == "1 lookup · acme · default · ids order-1"
