"""Remote control of a worker whose queues are claimed: asked, told to stop and to take up queues, at run time."""

from typing import Any

from sandbox.service import Service
from sandbox.waiting import until

QUEUE = "lookup.opay.bulk"
GOOD = {"opay_token": "OPAY_TOKEN_visa"}


def consumed(service: Service) -> list[str]:
    answers: Any = service.producer.control.inspect(timeout=1).active_queues() or {}
    return sorted(queue["name"] for queues in answers.values() for queue in queues)


def test_a_worker_answers_and_says_what_it_consumes(service: Service) -> None:
    answers: Any = service.producer.control.ping(timeout=1)
    assert [answer for node in answers for answer in node.values()] == [{"ok": "pong"}]
    assert consumed(service) == [
        "lookup.afterpay.bulk",
        "lookup.afterpay.interactive",
        "lookup.opay.bulk",
        "lookup.opay.interactive",
    ]


def test_a_worker_that_says_it_is_ready_obeys(service: Service) -> None:
    with service.worker("-Q", QUEUE):
        answers: Any = service.producer.control.ping(timeout=1)
        assert len(answers) == 2


def test_a_queue_can_be_left_and_taken_up_again(service: Service) -> None:
    control = service.producer.control
    control.cancel_consumer(QUEUE, reply=True, timeout=1)
    until(lambda: True if QUEUE not in consumed(service) else None)
    waiting = service.send("opay", [GOOD], lane="bulk")
    served = service.send("opay", [GOOD])
    assert service.results(served, 1)[0]["status"] == "found"
    assert service.redis.llen(QUEUE) == 1, "a queue without a consumer keeps its messages"

    control.add_consumer(QUEUE, reply=True, timeout=1)
    assert service.results(waiting, 1)[0]["status"] == "found"
    assert service.redis.llen(QUEUE) == 0


def test_nothing_is_left_behind_where_everything_is_done(service: Service) -> None:
    requests = [{"opay_token": f"OPAY_TOKEN_{name}~left"} for name in ("visa", "timeout-1", "code-20000", "not-found")]
    for lane in ("interactive", "bulk"):
        service.results(service.send("opay", [*requests, 5], lane=lane), 5)
    service.redis.lpush(QUEUE, b"no message")
    service.quarantined(b"no message")

    def left() -> list[bytes]:
        found: list[bytes] = [
            key
            for pattern in ("lookup:claim:*", "lookup:leases", "lookup:given-back:*", "lookup:delayed:*", "unacked*")
            for key in service.redis.keys(pattern)
        ]
        return found

    until(lambda: True if not left() else None)


def test_a_message_of_many_priorities_waits_for_no_other(service: Service) -> None:
    ids = [service.send("opay", [GOOD], priority=priority) for priority in (9, 6, 3, 0) for _ in range(5)]
    assert [service.results(task_id, 1)[0]["status"] for task_id in ids] == ["found"] * 20
