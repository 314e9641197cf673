"""What the pages tell a reader to type, tried with what they tell to install: the newest releases, and nothing else.

Redis has the users of deploy/redis, and each program is its role's.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import click
import pytest

from cardtoken.cli import cardtoken
from sandbox.environment import ROOT
from sandbox.processes import Child, start
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.pages import PAGES, Environments, environment, install_command, snippet, snippets
from tests.redis_users import ServerWithUsers

PRODUCER = snippet("README.md", "producer")
CONSUMER = snippet("README.md", "consumer")
#: Programs with the client: page, name, and what they print.
CLIENTS = {
    ("README.md", "client"): "7411\n",
    ("docs/contract.md", "client"): "found visa\n",
    ("docs/contract.md", "client-bulk"): "1000 lookups in 2 messages\n",
}
EXAMPLES = {"checkout.py OPAY_TOKEN_visa": r"visa •••• \d{4}", "autopay.py 20": "20 found"}
#: What else a reader may have of redis-py.
OLDER = ("pip install 'redis<7'", "pip install 'redis<8'")
tools = pytest.mark.tools


def test_each_program_of_the_pages_is_tried_and_says_what_to_install() -> None:
    shown = list(chain.from_iterable(map(snippets, PAGES)))
    assert {(each.page, each.name) for each in shown} == {
        ("README.md", "producer"),
        ("README.md", "consumer"),
        *CLIENTS,
    }
    assert [each for each in shown if not each.install] == []


def commands() -> Iterator[list[str]]:
    """The words of each call of the command line that a page shows."""
    for page in (*PAGES, "docs/adding-a-provider.md", "simulator/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = chain.from_iterable(map(str.splitlines, re.findall(r"```sh\n(.*?)```", text, re.DOTALL)))
        for line in (*blocks, *re.findall(r"`(cardtoken [^`]+)`", text)):
            words = shlex.split(line, comments=True)
            if words and Path(words[0]).name == "cardtoken" and words[1:2] != ["…"]:
                yield ["opay" if word in {"PROVIDER", "acme"} else word for word in words[1:]]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_command_of_the_pages_is_one(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cards.csv").touch()
    command: click.Command = cardtoken
    context = cardtoken.make_context("cardtoken", words)
    while isinstance(command, click.Group) and words:
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        if words:  # else it is named, and no more
            context = found.make_context(name, list(words), parent=context)
        command = found


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    commands = {snippet(page, name).install for page, name in CLIENTS}
    commands |= {PRODUCER.install, CONSUMER.install, install_command("examples/README.md"), *OLDER}
    return Environments(tmp_path_factory.mktemp("environments"), commands)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerWithUsers]:
    with ServerWithUsers(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def service(server: ServerWithUsers, simulator: Simulator) -> Iterator[Service]:
    service: Service = Service(server, simulator)  # type: ignore[arg-type]
    with service.worker():
        yield service


def consumer(programs: Path, url: str, lines: list[str]) -> Child:
    """The consumer of the README, under way."""
    command: list[str | Path] = [programs / "python", "-W", "error", "-c", CONSUMER.source]
    return start(command, env=environment(programs, REDIS_URL=url), on_line=lines.append)


def run(programs: Path, *command: str, folder: Path, **urls: str) -> str:
    """Run a program to its end; return what it has printed."""
    env = environment(programs, **urls)
    done = subprocess.run(
        [programs / command[0], *command[1:]],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@tools
def test_the_consumer_of_the_readme_waits_quietly_and_goes_on_after_a_restart(
    environments: Environments, server: ServerWithUsers
) -> None:
    # Each with a database of its own, and nothing in it.
    commands = (CONSUMER.install, *OLDER)
    lines: list[list[str]] = [[] for _ in commands]
    consumers = [
        consumer(environments.programs(command), server.url_of("consumer", number), printed)
        for number, (command, printed) in enumerate(zip(commands, lines, strict=True))
    ]

    def reads() -> int:
        """How often the consumers have begun to read, or have read nothing."""
        told = server.client("consumer").info("commandstats")
        return int(told.get("cmdstat_xreadgroup", {"calls": 0})["calls"])

    def publish(lookup_id: str) -> None:
        result = json.dumps({"lookup_id": lookup_id, "status": "found", "token": {"last4": "7411"}})
        for number in range(len(commands)):
            server.client("worker", number).xadd("token-records:checkout", {"result": result})

    def wait_for(*expected: str) -> None:
        until(lambda: True if all(each == list(expected) for each in lines) else None)

    try:
        # What they had not acknowledged, then at least two waits of five seconds each.
        until(lambda: True if reads() >= 4 * len(commands) else None, timeout=40)
        assert all(child.poll() is None for child in consumers)
        publish("first")
        wait_for("first found 7411")
        server.restart()
        publish("second")
        wait_for("first found 7411", "second found 7411")
        for child in consumers:
            child.send_signal(2)
            child.wait(10)
        wait_for("first found 7411", "second found 7411")
    finally:
        for child in consumers:
            child.stop()


@tools
def test_the_producer_and_the_consumer_of_the_readme_work(
    environments: Environments, server: ServerWithUsers, service: Service, tmp_path: Path
) -> None:
    lines: list[str] = []
    reading = consumer(environments.programs(CONSUMER.install), server.url_of("consumer"), lines)
    try:
        for number in (1, 2):
            programs = environments.programs(PRODUCER.install)
            url = server.url_of("producer")
            assert run(programs, "python", "-c", PRODUCER.source, folder=tmp_path, REDIS_URL=url) == ""
            until(lambda number=number: True if len(lines) == number else None)  # type: ignore[misc]
    finally:
        reading.stop()
    assert all(re.fullmatch(r"[0-9a-f-]{36}:0 found 7411", line) for line in lines)


@tools
def test_the_programs_with_the_client_work(
    environments: Environments, server: ServerWithUsers, service: Service, tmp_path: Path
) -> None:
    urls = {"REDIS_URL": server.url_of("producer"), "RESULTS_REDIS_URL": server.url_of("consumer")}

    def try_snippet(page: str, name: str) -> None:
        shown = snippet(page, name)
        printed = run(environments.programs(shown.install), "python", "-c", shown.source, folder=tmp_path, **urls)
        assert printed == CLIENTS[page, name]

    def try_example(command: str) -> None:
        program, argument = command.split()
        programs = environments.programs(install_command("examples/README.md"))
        path = str(ROOT / "examples" / "python" / program)
        assert re.search(EXAMPLES[command], run(programs, "python", path, argument, folder=tmp_path, **urls))

    def collect_twice() -> None:
        # One after the other: they use the same result queue.
        try_snippet("docs/contract.md", "client-bulk")
        service.redis.delete("token-records:autopay")
        try_example("autopay.py 20")

    with ThreadPoolExecutor(2) as threads:
        running = [
            threads.submit(collect_twice),
            threads.submit(try_snippet, "README.md", "client"),
            threads.submit(try_snippet, "docs/contract.md", "client"),
            threads.submit(try_example, "checkout.py OPAY_TOKEN_visa"),
        ]
        for each in running:
            each.result()


@tools
def test_the_command_line_comes_with_the_client(
    environments: Environments, server: ServerWithUsers, service: Service, tmp_path: Path
) -> None:
    programs = environments.programs(snippet("README.md", "client").install)
    url = server.url_of("operator")
    lookup = run(programs, "cardtoken", "lookup", "opay", "OPAY_TOKEN_visa", "--json", folder=tmp_path, REDIS_URL=url)
    assert json.loads(lookup)["token"]["brand"] == "visa"
    assert "worker" in run(programs, "cardtoken", "status", folder=tmp_path, REDIS_URL=url)
