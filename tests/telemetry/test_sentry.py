"""What Sentry is told, by a real worker, over its wire protocol."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cardtoken import __version__
from sandbox.environment import PRIVATE_KEY, ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from sandbox.waiting import until
from tasks.telemetry.redaction import Redactor
from tasks.telemetry.reports import Scrubber, sampler
from tests.telemetry.envelopes import SentryServer

SECRET = "0a1b2c3d4e5f60718293"


@pytest.fixture
def sentry() -> Iterator[SentryServer]:
    with SentryServer() as server:
        yield server


@pytest.fixture(scope="module")
def service(simulator: Simulator) -> Iterator[Service]:
    with RedisServer() as server:
        yield Service(server, simulator)


def test_a_retry_is_no_event_and_what_is_given_up_is_one_for_its_kind(service: Service, sentry: SentryServer) -> None:
    with service.worker(SENTRY_DSN=sentry.dsn, ENVIRONMENT="staging") as worker:
        good = service.send("opay", [{"opay_token": f"OPAY_TOKEN_timeout-1~{SECRET}{n}"} for n in range(3)])
        bad = service.send("opay", [{"opay_token": f"OPAY_TOKEN_code-20000~{SECRET}{n}"} for n in range(50)])
        other = service.send("opay", [{"opay_token": f"OPAY_TOKEN_code-97~{SECRET}"}, {"opay_token": 5}])
        for task_id, count in ((good, 3), (bad, 50), (other, 2)):
            service.results(task_id, count)
        assert worker.stop() == 0
    events = sentry.items("event")
    assert {event["message"] for event in events} == {
        "opay: lookups given up: rejected 20000",
        "opay: lookups given up: rejected 97",
    }
    counted = Counter({event["message"]: 0 for event in events})
    for event in events:
        counted[event["message"]] += event["extra"]["lookups"]
    assert counted["opay: lookups given up: rejected 20000"] == 50, "what gathered is told when the worker ends"
    assert len(events) == 3
    for event in events:
        assert event["fingerprint"][:3] == ["lookups given up", "opay", "rejected"]
        assert event["environment"] == "staging"
        assert event["release"] == f"cardtoken@{__version__}"
        assert (event["tags"]["provider"], event["tags"]["account"]) == ("opay", "default")
        assert event["level"] == "error"
    assert SECRET not in json.dumps(events)


def test_an_unforeseen_error_is_reported_once_without_the_values_in_it(
    service: Service, sentry: SentryServer, tmp_path: Path
) -> None:
    # An adapter that breaks on every answer, quoting what it was given, as a stranger's code might.
    (tmp_path / "sitecustomize.py").write_text(
        "import tasks.providers.opay as opay, dataclasses\n"
        "def broken(response, query):\n"
        "    token = query.reference.get_secret_value()\n"
        "    raise KeyError(f'no {token} among the answers')\n"
        "import tasks.providers as all\n"
        "all.PROVIDERS['opay'] = dataclasses.replace(opay.PROVIDER, parse=broken)\n"
    )
    path = f"{tmp_path}:{ROOT}"
    with service.worker(SENTRY_DSN=sentry.dsn, PYTHONPATH=path) as worker:
        task_id = service.send("opay", [{"opay_token": f"OPAY_TOKEN_visa~{SECRET}{n}"} for n in range(20)])
        results = service.results(task_id, 20)
        assert {result["error"]["category"] for result in results} == {"internal"}
        until(lambda: sentry.raw or None)
        assert worker.stop() == 0
        assert SECRET not in worker.log
    unexpected = [event for event in sentry.items("event") if "exception" in event]
    assert len(unexpected) == 1
    (error,) = unexpected[0]["exception"]["values"]
    assert error["type"] == "KeyError"
    assert "withheld" in error["value"]
    frames = error["stacktrace"]["frames"]
    assert frames[-1]["function"] == "broken"
    assert not any("vars" in frame for frame in frames)
    assert SECRET not in json.dumps(sentry.items("event"))
    given_up = [event["message"] for event in sentry.items("event") if "message" in event]
    assert set(given_up) == {"opay: lookups given up: internal"}


def test_a_call_is_a_span_whose_url_has_no_query(service: Service, sentry: SentryServer) -> None:
    with service.worker(SENTRY_DSN=sentry.dsn, SENTRY_TRACES_SAMPLE_RATE="1") as worker:
        asked = [{"original_request_id": f"visa~{SECRET}{n}", "metadata": {"m": SECRET}} for n in range(3)]
        service.results(service.send("afterpay", asked), 3)
        service.results(service.send("opay", [{"opay_token": f"OPAY_TOKEN_timeout-1~{SECRET}"}]), 1)
        assert worker.stop() == 0
    transactions = sentry.items("transaction")
    assert {each["transaction"] for each in transactions} == {"lookup.opay", "lookup.afterpay"}
    spans = [(each["transaction"], span) for each in transactions for span in each["spans"]]
    calls = [(name, span["description"]) for name, span in spans if span["op"] == "http.client"]
    url = service.simulator.url
    assert Counter(calls) == {
        ("lookup.afterpay", next(each for name, each in calls if name == "lookup.afterpay")): 3,
        ("lookup.opay", f"POST {url}/api/v1/international/token/query"): 2,
    }
    for _, span in spans:
        assert "?" not in str(span["description"])
    statuses = {span["data"].get("http.response.status_code") for _, span in spans if span["op"] == "http.client"}
    assert statuses == {200}
    assert any(span["op"].startswith("db") for _, span in spans), "Redis is traced too"
    told = json.dumps(transactions)
    assert SECRET not in told


def test_no_header_of_sentrys_reaches_a_provider_or_a_queue(service: Service, sentry: SentryServer) -> None:
    with service.worker(SENTRY_DSN=sentry.dsn, SENTRY_TRACES_SAMPLE_RATE="1") as worker:
        service.send("opay", [{"opay_token": "OPAY_TOKEN_timeout-always~h"}], lane="bulk")
        found: Any = until(
            lambda: service.redis.zrange("lookup:delayed:lookup.opay.bulk", 0, -1) or None, timeout=20, pause=0.001
        )
        entry = b"".join(value for value in service.redis.hgetall(b"lookup:claim:" + found[0]).values())
        assert b"baggage" not in entry
        assert b"sentry" not in entry
        worker.stop()
    service.redis.flushall()


def test_nothing_is_sent_without_a_dsn(service: Service, sentry: SentryServer) -> None:
    with service.worker() as worker:
        service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_code-20000"}]), 1)
        assert worker.stop() == 0
    assert sentry.raw == []


def test_a_sentry_that_does_not_answer_holds_nothing_up(service: Service) -> None:
    with service.worker(SENTRY_DSN="http://key@127.0.0.1:9/1") as worker:
        service.results(service.send("opay", [{"opay_token": "OPAY_TOKEN_code-20000"}]), 1)
        assert worker.stop(grace=15) == 0


def test_events_lose_what_integrations_put_into_them() -> None:
    scrub = Scrubber(Redactor([PRIVATE_KEY]))
    event: Any = {
        "message": f"key {PRIVATE_KEY}",
        "request": {"url": SECRET},
        "user": {"email": SECRET},
        "something_new": SECRET,
        "extra": {"celery-job": {"task_name": "lookup.opay", "args": [SECRET], "kwargs": {"a": SECRET}}},
        "exception": {"values": [{"type": "X", "value": SECRET, "stacktrace": {"frames": [{"vars": {"a": SECRET}}]}}]},
        "breadcrumbs": {"values": [{"message": PRIVATE_KEY, "data": {"url": SECRET}}]},
    }
    told = json.dumps(scrub.event(event, {}))
    assert SECRET not in told
    assert PRIVATE_KEY not in told
    assert "lookup.opay" in told


def test_the_sampler_hides_messages_from_what_is_behind_it() -> None:
    context: dict[str, Any] = {
        "celery_job": {"task": "lookup.opay", "args": [SECRET], "kwargs": {"requests": [SECRET]}}
    }
    assert sampler(0.25)(context) == 0.25
    assert SECRET not in json.dumps(context)
    assert sampler(0.25)({"transaction_context": {"name": "other"}}) == 0
