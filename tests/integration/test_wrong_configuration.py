"""A worker that cannot work does not start: it says why, what to do, and nothing secret."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from sandbox.environment import ROOT, clean_environment
from tasks.startup import StartupError, check_options

#: EX_CONFIG of sysexits.h.
EX_CONFIG = 78
PATIENCE = 60.0
OPAY = {"OPAY_MERCHANT_ID": "256612345678901", "OPAY_PRIVATE_KEY": "OPAYPRV-canary"}


def refusal(folder: Path, variables: Mapping[str, str], *options: str) -> str:
    """What a worker says that ends before it asks for Redis, where none is."""
    environment = {
        **clean_environment(),
        "PYTHONPATH": str(ROOT),  # from an empty folder, so that no .env of a developer counts
        "REDIS_URL": "redis://:canary@127.0.0.1:1/0",
        **variables,
    }
    output = folder / "output.txt"
    with output.open("wb") as sink:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        until = time.monotonic() + PATIENCE
        while worker.poll() is None and time.monotonic() < until:
            assert "is not there yet" not in output.read_text(), "the worker was not refused: it waits for Redis"
            time.sleep(0.05)
    finally:
        worker.kill()
        worker.wait()
    said = output.read_text()
    assert worker.returncode == EX_CONFIG, said
    assert "Traceback" not in said
    assert "canary" not in said
    return said


def test_every_wrong_variable_is_told_at_once(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        {
            **OPAY,
            "OPAY_BASE_URL": "http://opay.example.com",
            "REDIS_URL": "http://user:canary@redis.example.com",
            "RETRY_MAX_ATTEMPTS": "canary",
            "AFTERPAY_CLIENT_SECRET": "canary",
            "PROVIDER_ACCOUNTS_FILE": os.devnull,
        },
    )
    assert said.startswith("The configuration is wrong in 5 places:\n")
    for variable in (
        "OPAY_BASE_URL",
        "REDIS_URL",
        "RETRY_MAX_ATTEMPTS",
        "AFTERPAY_CLIENT_ID",
        "PROVIDER_ACCOUNTS_FILE",
    ):
        assert f"\n  {variable}: " in said
    assert said.count("\n      fix: ") == 5


def test_a_wrong_dot_env_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RETRY_MAX_ATTEMPTS=never\nOPAY_PRIVATE_KEY=canary\n")
    said = refusal(tmp_path, {"OPAY_MERCHANT_ID": "256612345678901"})
    assert said.startswith("The configuration is wrong in 1 place:\n  RETRY_MAX_ATTEMPTS: ")


def test_without_any_provider_there_is_nothing_to_do(tmp_path: Path) -> None:
    said = refusal(tmp_path, {})
    assert said.startswith("No provider has an account")
    for variable in ("OPAY_MERCHANT_ID", "OPAY_PRIVATE_KEY", "AFTERPAY_CLIENT_ID", "PROVIDER_ACCOUNTS_FILE"):
        assert variable in said


@pytest.mark.parametrize("queues", ["lookup.afterpay.bulk", "lookup.opay.bulk,lookup.afterpay.bulk"])
def test_a_queue_of_a_provider_without_an_account_is_refused(tmp_path: Path, queues: str) -> None:
    said = refusal(tmp_path, OPAY, "-Q", queues)
    assert said.startswith("-Q names lookup.afterpay.bulk, but its provider has no account")


@pytest.mark.parametrize(
    ("queues", "unknown"),
    [
        ("celery", "celery"),  # Celery's own default
        ("lookup.opay.bulk,lookup.opay", "lookup.opay"),  # one of ours beside it does not help
        ("lookup.opay.INTERACTIVE", "lookup.opay.INTERACTIVE"),
    ],
)
def test_a_queue_that_there_is_not_is_refused_with_those_that_there_are(
    tmp_path: Path, queues: str, unknown: str
) -> None:
    said = refusal(tmp_path, OPAY, "-Q", queues)
    assert said.startswith(f"-Q names {unknown}, which is not a queue of this service.")
    assert "lookup.opay.interactive, lookup.opay.bulk" in said


@pytest.mark.parametrize(
    ("pool", "name"),
    [
        ("solo", "celery.concurrency.solo:TaskPool"),
        ("prefork", "prefork"),
        ("processes", "celery.concurrency.prefork:TaskPool"),
    ],
)
def test_a_pool_other_than_threads_is_refused_with_the_reason(tmp_path: Path, pool: str, name: str) -> None:
    said = refusal(tmp_path, OPAY, "-P", pool)
    assert said.startswith(f"The pool {name} cannot be used: ")
    assert "share" in said
    assert "-P threads" in said


def test_autoscaling_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    assert "Use -c" in refusal(tmp_path, OPAY, "--autoscale", "10,3")


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--max-tasks-per-child", "5"], {}, "--max-tasks-per-child cannot be used: threads"),
        ([], {"CELERY_WORKER_TIME_LIMIT": "5"}, "--time-limit cannot be used: threads"),
        (["--", "worker.max_memory_per_child=5"], {}, "worker_max_memory_per_child cannot be used"),
    ],
    ids=["option", "environment", "setting"],
)
def test_options_without_effect_on_threads_are_refused(
    tmp_path: Path, options: list[str], variables: dict[str, str], words: str
) -> None:
    assert words in refusal(tmp_path, {**OPAY, **variables}, *options)


NO_EFFECT = [
    "beat", "max_memory_per_child", "max_tasks_per_child", "pool_start_method", "purge", "scheduler",
    "soft_time_limit", "time_limit",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_EFFECT)
def test_each_option_that_does_harm_or_nothing_is_named(name: str) -> None:
    conf: Any = Celery(broker="redis://here").conf
    with pytest.raises(StartupError, match=f"--{name.replace('_', '-')} cannot be used: .*"):
        check_options({name: 1}, conf, "redis://here")
    check_options({name: None, "optimization": "default", "prefetch_multiplier": 2}, conf, "redis://here")


@pytest.mark.parametrize("setting", ["task_time_limit", "task_soft_time_limit", "worker_max_tasks_per_child"])
def test_the_same_as_a_setting_is_named(setting: str) -> None:
    conf: Any = Celery(broker="redis://here", changes={setting: 5}).conf
    with pytest.raises(StartupError, match=f"{setting} cannot be used"):
        check_options({}, conf, "redis://here")


def test_another_broker_and_another_order_are_refused() -> None:
    conf: Any = Celery(broker="redis://elsewhere").conf
    with pytest.raises(StartupError, match="REDIS_URL"):
        check_options({}, conf, "redis://here")
    with pytest.raises(StartupError, match="-O cannot be used"):
        check_options({"optimization": "fair"}, conf, "redis://elsewhere")


def test_a_worker_left_without_a_queue_is_refused(tmp_path: Path) -> None:
    assert "-X leaves no queue" in refusal(tmp_path, OPAY, "-X", "lookup.opay.interactive,lookup.opay.bulk")


@pytest.mark.parametrize("variable", ["HTTP_CA_FILE", "REDIS_CA_FILE"])
def test_a_file_of_authorities_that_holds_none_is_refused(tmp_path: Path, variable: str) -> None:
    path = tmp_path / "no.pem"
    path.write_text("no certificate")
    assert f"{variable}: holds no certificate in PEM form" in refusal(tmp_path, {**OPAY, variable: str(path)})


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/rest@127.0.0.1:6379/0",  # a slash that ends the host
        "redis://:hunter2@127.0.0.1:abc/0",
        "redis://:hunter2@[::1/0",
        "redis://:hunter2@127.0.0.1/first",
        "redis://:hunter2@127.0.0.1/0?socket_timeout=x",
        "redis://",
    ],
)
def test_a_redis_url_that_cannot_be_understood_is_refused_without_being_quoted(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, {**OPAY, "REDIS_URL": url})
    assert "REDIS_URL: " in said
    assert "hunter2" not in said


def test_a_dotenv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    assert ".env: is not UTF-8 text" in refusal(tmp_path, OPAY)
