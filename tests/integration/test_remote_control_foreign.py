"""Remote control as others misuse it: queues that are not ours, another Celery application, and plain garbage."""

import json
from pathlib import Path
from typing import Any

import requests
from celery import Celery

from sandbox.messages import changed, raw, wrapped
from sandbox.redis_server import free_port
from sandbox.service import Service
from sandbox.waiting import until
from tests.browser.flower import Flower

CHANNELS = ["/0.cardtoken.pidbox", "/0.celery.pidbox", "/0.cardtoken.events/worker.heartbeat", "/0.celeryev/worker.x"]


QUEUES = [f"lookup.{provider}.{lane}" for provider in ("afterpay", "opay") for lane in ("bulk", "interactive")]


def message(body: object, /, **entry: object) -> bytes:
    """Return a broadcast as kombu writes it."""
    return raw(changed(wrapped(json.dumps(body), {"clock": 5, "expires": 0}), **entry))


def call(method: object = "ping", **body: object) -> bytes:
    return message({"method": method, "arguments": {}, "destination": None, **body})


#: None of them is a command that a worker could obey.
GARBAGE = [
    b"[]", b"null", b"5", b'"text"', b"{}", b"{", b"\xff\xfe", b"\x00" * 10, b"[" * 100_000, b"x" * (2 << 20),
    b'{"__type__": "uuid", "__value__": 5}', b'{"properties": []}', b'{"properties": {}}', b'{"body": 5}',
    message([]), message(None), message(5), message({}), message("shutdown"),
    message({"method": "ping"}, headers=[5]), message({"method": "ping"}, **{"content-type": None}),
    message({"method": "ping"}, **{"content-type": "application/x-python-serialize"}),
    message({"method": "ping"}, **{"content-encoding": "nonsense"}),
    message({"method": "ping"}, properties=None), message({"method": "ping"}, headers={"compression": "zlib"}),
    message({"method": "ping"}, body="not base64!"),
    message({"method": "heartbeat"}, headers={"clock": "x"}),
    message({"method": "heartbeat"}, headers={"clock": 10**400}),
    message({"method": "heartbeat"}, headers={"clock": -5}),
    call(None), call(5), call(["ping"]), call("no_such_command"), call("__class__"),
    call(arguments=[1, 2]), call(arguments="text"), call(arguments={"state": 5}), call(arguments={"__type__": "uuid"}),
    call(destination="shutdown"), call(destination=5), call(destination={"a": 1}), call(destination=[{}]),
    call(pattern="(a+)+$", matcher="pcre"), call(pattern=5, matcher="glob"), call(pattern="*", matcher=["x"]),
    call(reply_to=5), call(reply_to={"exchange": "", "routing_key": "lookup.opay.bulk"}),
    call(reply_to={"exchange": []}),
    call(reply_to={"exchange": "reply.cardtoken.pidbox", "routing_key": ["x"]}), call(ticket={"a": 1}),
    call("rate_limit", arguments={"task_name": "lookup.opay", "rate_limit": "-5/s"}),
    call("rate_limit", arguments={"task_name": [], "rate_limit": "x/y"}),
    call("revoke", arguments={"task_id": [5, {}]}), call("revoke", arguments={}),
    call("cancel_consumer", arguments={"queue": ["lookup.opay.bulk"]}), call("add_consumer", arguments={"queue": {}}),
    call("pool_shrink", arguments={"n": 1000}), call("pool_grow", arguments={"n": "x"}), call("autoscale"),
    call("time_limit", arguments={"task_name": "lookup.opay", "hard": 0.001}), call("pool_restart"),
    call("registered", arguments={"taskinfoitems": 5}), call("query_task", arguments={"ids": [{}]}),
    call("hello", arguments={"from_node": "x", "revoked": [1, "x", None]}), call("election", arguments={"id": 1}),
    call("revoke_by_stamped_headers", arguments={"headers": ["x"]}), call("terminate", arguments={"signal": "KILL"}),
    message({"type": "worker-heartbeat", "hostname": "x", "freq": "x", "timestamp": "y", "clock": "z"}),
    message({"type": "worker-heartbeat", "freq": 2.0, "timestamp": 1.0, "clock": -(10**30)}),
]  # fmt: skip


def served(service: Service, lane: str = "interactive") -> None:
    sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}], lane=lane)
    assert service.results(sent, 1)[0]["status"] == "found"


def inspected(service: Service, what: str) -> Any:
    answers: Any = getattr(service.producer.control.inspect(timeout=1), what)()
    (found,) = answers.values()
    return found


def test_garbage_on_its_channels_is_ignored_and_counted(service: Service) -> None:
    port = free_port()
    with service.worker("-Q", "lookup.opay.bulk", METRICS_PORT=str(port)) as worker:
        for channel in CHANNELS:
            for raw in GARBAGE:
                service.redis.publish(channel, raw)
        served(service, "bulk")
        assert worker.child.poll() is None
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text
        (line,) = [each for each in text.splitlines() if each.startswith("cardtoken_control_ignored_total ")]
        assert float(line.split()[1]) > 50
        assert sum("remote control: ignored" in line for line in worker.lines) == 1
        assert "Traceback" not in worker.log
        assert not any("Connection to broker lost" in line for line in worker.lines)
        assert service.redis.llen("lookup.opay.bulk") == 0, "no reply goes to a lookup queue"
        assert worker.stop() == 0


def test_a_queue_that_is_not_ours_is_not_consumed_and_loses_nothing(service: Service) -> None:
    names = ["lookup.opay.vip", "celery", "lookup.opay.bulk\x06\x163", "lookup.opay.bulk:3", "lookup:dead-letters", ""]
    for name in names:
        if name not in ("", "lookup:dead-letters"):
            service.redis.lpush(name, b"not ours")
        answers: Any = service.producer.control.add_consumer(name, reply=True, timeout=1)
        assert [answer["error"] for node in answers for answer in node.values()], name
    served(service)
    assert sorted(each["name"] for each in inspected(service, "active_queues")) == QUEUES
    for name in ("lookup.opay.vip", "celery"):
        assert service.redis.lrange(name, 0, -1) == [b"not ours"]


def test_a_queue_of_a_provider_without_an_account_is_not_taken_up(service: Service) -> None:
    without = {"AFTERPAY_CLIENT_ID": "", "AFTERPAY_CLIENT_SECRET": ""}
    with service.worker("-Q", "lookup.opay.bulk", **without) as worker:
        control = service.producer.control
        answers: Any = control.add_consumer("lookup.afterpay.bulk", destination=[worker.name], reply=True, timeout=1)
        assert "not a queue of this worker's accounts" in answers[0][worker.name]["error"]
        until(lambda: True if "lookup.afterpay.bulk" in worker.log else None)


def test_another_application_on_the_same_database_is_not_obeyed(service: Service) -> None:
    shop = Celery("the-shop", broker=service.server.url)
    shop.send_task("shop.order", args=[1])
    (pushed,) = service.redis.lrange("celery", 0, 0)
    assert not shop.control.ping(timeout=0.5)
    shop.control.add_consumer("celery")
    shop.control.rate_limit("lookup.opay", "1/h")
    shop.control.cancel_consumer("lookup.opay.interactive")
    shop.control.shutdown()
    served(service)
    served(service)
    assert service.redis.lrange("celery", 0, 0) == [pushed]


def test_messages_waiting_for_a_rate_limit_run_when_it_is_lifted(service: Service) -> None:
    control = service.producer.control
    control.rate_limit("lookup.opay", "2/m", reply=True, timeout=1)
    sent = [service.send("opay", [{"opay_token": f"OPAY_TOKEN_visa~limited-{n}"}]) for n in range(6)]
    until(lambda: True if len(inspected(service, "active")) == 0 and service.redis.zcard("lookup:leases") else None)
    control.rate_limit("lookup.opay", "1/h", reply=True, timeout=1)
    assert service.redis.zcard("lookup:leases") >= 3, "the new limit holds too"
    control.rate_limit("lookup.opay", 0, reply=True, timeout=1)
    for task_id in sent:
        assert service.results(task_id, 1)[0]["status"] == "found"


def test_flower_outlives_garbage_on_the_channel_of_events(service: Service, tmp_path: Path) -> None:
    with Flower(service.environment, tmp_path) as flower:
        until(lambda: True if flower.get("/api/workers?refresh=1").json() else None)
        heartbeat = {"type": "worker-heartbeat", "hostname": "forged@x", "timestamp": 1.0, "clock": 1}
        odd = [message({**heartbeat, name: "x"}) for name in ("freq", "clock", "timestamp", "alive")]
        for raw in [*GARBAGE, *odd]:
            service.redis.publish("/0.cardtoken.events/worker.heartbeat", raw)
        sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}])
        until(lambda: True if flower.task(sent).get("state") == "SUCCESS" else None)
        assert flower.get("/workers").status_code == 200
        assert "forged@x" not in flower.get("/workers").text
        said = "\n".join(flower.lines)
        assert "Traceback" not in said
        assert "Failed to capture" not in said
