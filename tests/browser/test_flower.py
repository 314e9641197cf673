"""Flower's pages in a real browser: what operators see of retries, and what they must not see."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from celery import Celery
from playwright.sync_api import Browser, Page, expect

from sandbox.environment import PRIVATE_KEY, ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import OPERATOR, Service, Simulator
from sandbox.waiting import until
from tests.browser.flower import PASSWORD, USER, Flower

pytestmark = pytest.mark.tools

SECRET = "5f4e3d2c1b0a99887766"


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer() as server:
        service = Service(server, simulator)
        with service.worker("-Q", "lookup.opay.interactive,lookup.afterpay.interactive,lookup.afterpay.bulk"):
            yield service


@pytest.fixture(scope="module")
def flower(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    with Flower(service.environment, tmp_path_factory.mktemp("flower")) as flower:
        # It hears of what happens from then on.
        until(lambda: True if flower.get("/api/workers?refresh=1").json() else None)
        yield flower


@pytest.fixture
def page(browser: Browser, flower: Flower) -> Iterator[Page]:
    context = browser.new_context(
        http_credentials={"username": USER, "password": PASSWORD}, viewport={"width": 1500, "height": 700}
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def row_of(page: Page, flower: Flower, task_id: str) -> dict[str, str]:
    """The task's row on the tasks page, by column."""
    page.goto(f"{flower.url}/tasks")
    row = page.locator("#tasks-table tbody tr", has_text=task_id)
    expect(row).to_have_count(1)
    names = [str(each.get_attribute("data-column")) for each in page.locator("#tasks-table thead th").all()]
    return dict(zip(names, [cell.inner_text() for cell in row.locator("td").all()], strict=True))


def test_a_stranger_gets_in_nowhere(flower: Flower) -> None:
    for path in ("/", "/tasks", "/broker", "/workers", "/api/tasks", "/api/workers"):
        assert requests.get(flower.url + path, timeout=10).status_code == 401, path
        assert requests.get(flower.url + path, auth=(USER, "guess"), timeout=10).status_code == 401, path


def test_a_retry_is_seen_with_provider_code_and_attempt(service: Service, flower: Flower, page: Page) -> None:
    task_id = service.send(
        "opay", [{"opay_token": f"OPAY_TOKEN_timeout-always~{SECRET}", "lookup_id": "order-77"}], lane="interactive"
    )
    until(lambda: _retried(flower, task_id))
    row = row_of(page, flower, task_id)
    assert row["name"] == "lookup.opay"
    assert row["kwargs"] == "1 lookup · opay · default · ids order-77"
    assert int(row["retries"]) >= 1
    assert re.search(r"opay: 1 timeout 09 at attempt \d; again in \d", row["exception"])
    page.goto(f"{flower.url}/task/{task_id}")
    text = page.locator("#task-page").inner_text()
    assert "1 lookup · opay · default · ids order-77" in text
    assert SECRET not in page.content()
    service.results(task_id, 1)


def _retried(flower: Flower, task_id: str) -> bool | None:
    found = flower.task(task_id)
    return True if found.get("exception") and found.get("retries") else None


def test_a_result_is_a_count_and_no_card(service: Service, flower: Flower, page: Page) -> None:
    cards = [{"opay_token": f"OPAY_TOKEN_visa~{SECRET}{n}", "metadata": {"name": SECRET}} for n in range(3)]
    task_id = service.send("opay", cards)
    service.results(task_id, 3)
    until(lambda: True if flower.task(task_id).get("state") == "SUCCESS" else None)
    row = row_of(page, flower, task_id)
    assert row["state"] == "SUCCESS"
    assert row["kwargs"] == "3 lookups · opay · default"
    assert "3 found" in row["result"]
    assert SECRET not in page.content()


def test_producers_that_tell_of_their_messages_are_not_believed(service: Service, flower: Flower, page: Page) -> None:
    """Such as a Celery application with events of its own, with a repr of its own or none."""
    talkative = Celery("talkative", broker=service.server.url)
    # On the channel of this service: what is said on the usual one does not reach Flower.
    talkative.conf.update(task_send_sent_event=True, **OPERATOR)
    kwargs = {"requests": [{"opay_token": f"OPAY_TOKEN_visa~{SECRET}"}]}
    # No worker consumes this one yet, so that Flower shows what the producer sent.
    talkative.send_task("lookup.opay", kwargs=kwargs, queue="lookup.opay.bulk", task_id="waits-1")
    talkative.send_task(
        "lookup.opay", kwargs=kwargs, queue="lookup.opay.interactive", task_id="ran-1", kwargsrepr=repr(kwargs),
        argsrepr=SECRET, shadow=SECRET,
    )  # fmt: skip
    service.results("ran-1", 1)
    until(lambda: True if flower.task("waits-1") else None)
    until(lambda: True if flower.task("ran-1").get("state") == "SUCCESS" else None)
    row = row_of(page, flower, "waits-1")
    assert row["kwargs"] == "(as its producer sent it: not shown)"
    assert SECRET not in flower.get("/api/tasks").text
    assert SECRET not in page.content()


def test_the_broker_page_counts_what_waits_in_our_queues(service: Service, flower: Flower, page: Page) -> None:
    service.producer.control.cancel_consumer("lookup.afterpay.bulk", reply=True, timeout=2)
    for _ in range(3):
        service.send("afterpay", [{"original_request_id": "visa"}], lane="bulk")
    try:
        page.goto(f"{flower.url}/broker")
        text = page.locator("body").inner_text()
        assert re.search(r"lookup\.afterpay\.bulk\s+3\b", text), text
        assert "token" not in text.lower()
    finally:
        service.producer.control.add_consumer("lookup.afterpay.bulk", reply=True, timeout=2)


def test_the_worker_page_shows_no_secret_setting(service: Service, flower: Flower, page: Page) -> None:
    (name,) = flower.get("/api/workers?refresh=1").json()
    page.goto(f"{flower.url}/worker/{name}")
    for tab in page.locator("[data-bs-toggle=tab]").all():
        tab.click()
    content = page.content()
    assert "lookup.opay.interactive" in content
    assert PRIVATE_KEY not in content
    assert "merchantABC" not in content


def test_flower_refuses_every_command_that_changes_something(service: Service, flower: Flower, page: Page) -> None:
    (name,) = flower.get("/api/workers?refresh=1").json()
    refused = [
        ("/api/worker/shutdown/" + name, {}),
        ("/api/worker/pool/restart/" + name, {}),
        ("/api/worker/queue/cancel-consumer/" + name, {"queue": "lookup.opay.interactive"}),
        ("/api/task/revoke/some-id", {"terminate": "true"}),
        ("/api/task/send-task/lookup.opay", {}),
        ("/api/task/async-apply/lookup.opay", {}),
    ]
    for path, data in refused:
        answer = requests.post(flower.url + path, data=data, auth=(USER, PASSWORD), timeout=10)
        assert answer.status_code in {400, 403, 405}, (path, answer.status_code, answer.text)
    page.goto(f"{flower.url}/worker/{name}")
    expect(page.get_by_text("Shut Down")).to_have_count(0)
    service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}]), 1)


def test_tasks_are_still_there_after_a_restart(service: Service, tmp_path: Path) -> None:
    with Flower(service.environment, tmp_path) as flower:
        until(lambda: True if flower.get("/api/workers?refresh=1").json() else None)
        task_id = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}])
        until(lambda: True if flower.task(task_id) else None)
    assert {oct(each.stat().st_mode & 0o077) for each in tmp_path.iterdir()} == {"0o0"}, "for its user alone"
    with Flower(service.environment, tmp_path) as flower:
        assert flower.task(task_id)["name"] == "lookup.opay"


def test_flower_refuses_an_unsafe_configuration(service: Service, tmp_path: Path) -> None:
    def refused(*args: str, **environment: str) -> str:
        env = {**service.environment, "FLOWER_DB": str(tmp_path / "flower"), **environment}
        command = [sys.executable, "-m", "celery", "-A", "tasks", "flower", "--port=0", *args]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 78, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "FLOWER_BASIC_AUTH" in refused("--address=0.0.0.0")
    assert "FLOWER_BASIC_AUTH" in refused(FLOWER_ADDRESS="::")
    assert "processes" in refused("--basic-auth=operator:hunter2hunter2")
    assert "USER:PASSWORD" in refused(FLOWER_BASIC_AUTH="operator")
    assert "FLOWER_BASIC_AUTH_FILE" in refused(FLOWER_BASIC_AUTH_FILE="/nowhere")
    assert "FLOWER_DB" in refused(FLOWER_DB="/proc/flower/state")
    password = tmp_path / "password"
    password.write_text("operator:from-a-file\n")
    with Flower({**service.environment, "FLOWER_BASIC_AUTH_FILE": str(password)}, tmp_path) as flower:
        answer = requests.get(f"{flower.url}/workers", auth=("operator", "from-a-file"), timeout=10)
        assert answer.status_code == 200
