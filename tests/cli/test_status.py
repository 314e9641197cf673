"""``cardtoken status`` and ``health`` against a real server and worker."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cardtoken.presence import LAST_REPORTS
from sandbox.environment import ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tests.cli.terminal import CARDTOKEN, Terminal, environment, piped


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer(appendonly=True) as server:
        service = Service(server, simulator)
        with service.worker("-Q", "lookup.opay.interactive,lookup.opay.bulk"):
            yield service


@pytest.fixture
def env(service: Service) -> dict[str, str]:
    return environment(service.server.url)


def test_everything_is_on_one_screen(service: Service, env: dict[str, str]) -> None:
    service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]), 1)
    service.redis.xgroup_create("token-records:default", "shop", id="0")
    with Terminal(env, "status") as terminal:
        assert terminal.end() == 0
        shown = terminal.text
    assert len(shown.splitlines()) <= 24
    for words in (
        "Queues",
        "lookup.opay.interactive",
        "Workers",
        "@test",
        "Result queues",
        "shop",
        "dead letters 0",
        "noeviction",
    ):
        assert words in shown
    assert "\x1b[" in terminal.raw


def test_no_color_is_obeyed_on_a_terminal(service: Service, env: dict[str, str]) -> None:
    with Terminal({**env, "NO_COLOR": "1"}, "status") as terminal:
        assert terminal.end() == 0
        assert "\x1b[3" not in terminal.raw


def test_in_a_pipe_each_line_begins_with_what_it_is_about(service: Service, env: dict[str, str]) -> None:
    done = piped(env, "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    kinds = [line.split()[0] for line in done.stdout.splitlines()]
    assert kinds[:2] == ["redis", "worker"]
    assert {"queue", "claimed", "dead-letters", "quarantine"} <= set(kinds)


def test_a_queue_without_consumers_is_reported_with_its_age(service: Service, env: dict[str, str]) -> None:
    asked = {
        "original_request_id": "visa",
        "requested_at": (datetime.now(UTC) - timedelta(seconds=90)).isoformat(),
    }
    service.send("afterpay", [asked], lane="bulk")
    document = json.loads(piped(env, "status", "--json").stdout)
    (queue,) = [queue for queue in document["queues"] if queue["name"] == "lookup.afterpay.bulk"]
    assert (queue["waiting"], queue["workers"]) == (1, 0)
    assert 90 <= queue["oldest"] < 120
    assert any("lookup.afterpay.bulk" in sentence and "no worker" in sentence for sentence in document["attention"])
    service.redis.lpush("lookup.afterpay.bulk", b"no message")
    service.redis.rpush("lookup.afterpay.bulk", b"no message either")
    document = json.loads(piped(env, "status", "--json").stdout)
    (queue,) = [queue for queue in document["queues"] if queue["name"] == "lookup.afterpay.bulk"]
    assert (queue["waiting"], queue["oldest"]) == (3, None)
    service.redis.delete("lookup.afterpay.bulk")


def test_a_watch_goes_on_until_ctrl_c(service: Service, env: dict[str, str]) -> None:
    with Terminal(env, "status", "--watch", "--interval", "0.3") as terminal:
        terminal.until("Queues")
        service.redis.xadd("lookup:quarantine", {"raw": "x"})
        terminal.until("quarantine 1")
        terminal.press_ctrl_c()
        assert terminal.end() == 130
    service.redis.delete("lookup:quarantine")
    watched = piped(env, "status", "--watch", "--interval", "0.3", "--json", "--help")
    assert watched.returncode == 0


def test_a_worker_that_consumes_is_healthy(service: Service, env: dict[str, str]) -> None:
    done = piped(env, "health")
    assert (done.returncode, done.stderr) == (0, "")
    assert "consumes lookup.opay.bulk, lookup.opay.interactive" in done.stdout
    assert json.loads(piped(env, "health", "--json").stdout)["healthy"] is True


def test_a_worker_that_is_not_well_gives_status_1(service: Service, env: dict[str, str]) -> None:
    done = piped(env, "health", "--host", "elsewhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no worker on host elsewhere" in done.stderr
    with service.worker("-Q", "lookup.afterpay.bulk") as worker:
        name = worker.name
        service.producer.control.cancel_consumer("lookup.afterpay.bulk", destination=[name], reply=True, timeout=2)
        done = until(lambda: found if (found := piped(env, "health", "--worker", name)).returncode else None, 15, 0.5)
        assert f"{name}: it takes from no queue" in done.stderr
        assert piped(env, "health").returncode == 1, "one of this host's is not well"


def test_a_frozen_worker_is_told_though_nothing_waits(service: Service, env: dict[str, str]) -> None:
    queue = "lookup.afterpay.interactive"
    with service.worker("-Q", queue) as worker:
        worker.freeze()
        name = worker.name
        # As 15 seconds would.
        for each, text in service.redis.hgetall(LAST_REPORTS).items():
            report = json.loads(text)
            if report["name"] == name:
                service.redis.hset(LAST_REPORTS, each, json.dumps({**report, "at": report["at"] - 15}))
        document = json.loads(piped(env, "status", "--json").stdout)
        (found,) = [each for each in document["queues"] if each["name"] == queue]
        assert (found["waiting"], found["workers"], found["silent"]) == (0, 0, [name])
        assert [each["name"] for each in document["silent"]] == [name]
        told = [sentence for sentence in document["attention"] if name in sentence]
        assert any(sentence.startswith(queue) for sentence in told)
        assert any("frozen" in sentence for sentence in told)
        for args in (("health",), ("health", "--worker", name)):
            done = piped(env, *args)
            assert done.returncode == 1
            assert f"{name}: silent for " in done.stderr
            assert f"no living worker for {queue}" in done.stderr
        worker.child.kill()
    assert piped(env, "health").returncode == 1, "nor has it ended in order"
    service.redis.delete(LAST_REPORTS)


def test_health_ends_within_its_limit_where_redis_does_not_answer(env: dict[str, str]) -> None:
    """A server that accepts and never says a word, and a host name for which there is no end of waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = [
            subprocess.Popen([*CARDTOKEN, "health"], env={**env, **more}, stderr=subprocess.PIPE, text=True)
            for more in (
                {"REDIS_URL": f"redis://127.0.0.1:{port}/0"},
                {
                    "REDIS_URL": ";".join([f"sentinel://127.0.0.1:{port}"] * 5) + "/0",
                    "REDIS_SENTINEL_MASTER": "mymaster",
                },
            )
        ]
        for process in started:
            _, error = process.communicate(timeout=9)
            assert process.returncode == 5, error
            assert len(error.splitlines()) == 1


def test_the_limit_of_health_counts_from_its_start(env: dict[str, str]) -> None:
    """Loading the program has taken the time by then, so that it asks nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = {**env, "REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"}
        late = (
            "import time; began = time.monotonic; time.monotonic = lambda: began() - 600\nfrom cardtoken import cli\n"
        )
        late += "time.monotonic = began; import sys; sys.argv = ['cardtoken', 'health']; cli.main()"
        done = subprocess.run(
            [sys.executable, "-c", late], env=away, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (
        5,
        "cardtoken: Redis cannot be asked (no answer within 0.0 s); see REDIS_URL\n",
    )


def test_health_loads_no_models(env: dict[str, str]) -> None:
    """They take a third of its time, and a check runs it every few seconds on each worker."""
    look = "import sys; from cardtoken.cli import main; sys.argv = ['cardtoken', 'health']\n"
    look += "try: main()\nfinally: print('pydantic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look], env=env, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_a_workers_wrong_clock_and_lack_of_progress_are_reported(service: Service, env: dict[str, str]) -> None:
    fields = {"name": "odd@one", "host": "one", "pid": 1, "threads": 4, "version": "1",
              "started_at": "2026-01-01T00:00:00Z", "queues": '["lookup.opay.bulk"]', "messages": 3, "still": "0.1",
              "stalled": "45.0", "clock_offset": "-44.6"}  # fmt: skip
    service.redis.hset("lookup:worker:odd", mapping=fields)
    service.redis.sadd("lookup:workers", "odd")
    try:
        attention = json.loads(piped(env, "status", "--json").stdout)["attention"]
        assert "odd@one: it has work and has made no progress for 45 s; restart it." in attention
        assert "odd@one: its clock is 45 s behind Redis': set it, by NTP." in attention
        done = piped(env, "health", "--host", "one")
        assert (done.returncode, done.stderr.count("odd@one")) == (1, 2)
        service.redis.hset("lookup:worker:odd", "stalled", "0.0")
        done = piped(env, "health", "--host", "one")
        assert (done.returncode, done.stderr.count("odd@one")) == (0, 1), (
            "a clock that is wrong is no reason to restart"
        )
    finally:
        service.redis.delete("lookup:worker:odd")
        service.redis.srem("lookup:workers", "odd")


@pytest.mark.parametrize("command", ["status", "health"])
def test_a_redis_that_is_away_is_one_line_and_status_5(env: dict[str, str], command: str) -> None:
    away = {**env, "REDIS_URL": "redis://:secret-password@127.0.0.1:1/0"}
    done = piped(away, command)
    assert (done.returncode, done.stdout) == (5, "")
    assert len(done.stderr.splitlines()) == 1
    assert "REDIS_URL" in done.stderr
    assert "secret-password" not in done.stderr


def test_the_url_may_come_from_a_file(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(env["REDIS_URL"] + "\n")
    from_file = {name: value for name, value in env.items() if name != "REDIS_URL"} | {"REDIS_URL_FILE": str(file)}
    assert piped(from_file, "health").returncode == 0
    assert piped({**from_file, "REDIS_URL_FILE": "/nowhere"}, "health").returncode == 2


def test_a_misspelt_variable_is_named_with_the_right_one(service: Service, env: dict[str, str]) -> None:
    done = piped({**env, "REDIS_ULR": "redis://elsewhere"}, "health")
    assert "REDIS_ULR is set, and there is no such setting; did you mean REDIS_URL?" in done.stderr
    worker = subprocess.run(
        [sys.executable, "-c", "import tasks.celery"],
        env={**service.environment, "RETRY_MAX_ATTEMPT": "3"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert worker.returncode == 0, worker.stderr
    assert "RETRY_MAX_ATTEMPT is set, and there is no such setting; did you mean RETRY_MAX_ATTEMPTS?" in worker.stderr
