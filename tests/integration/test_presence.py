"""Workers tell that they are there, and that they are gone."""

import json
import os
from datetime import UTC, datetime

from cardtoken.presence import LAST_REPORTS, REMEMBERED_SECONDS, WORKERS, SilentWorker, WorkerReport, presence, workers
from sandbox.service import Service
from sandbox.waiting import until
from tasks.stores.presence import forget_dead_workers
from tasks.stores.results import Bounds
from tasks.stores.retention import Retention


def test_a_worker_is_there_from_its_start_to_its_end(service: Service) -> None:
    before = {worker.name for worker in workers(service.redis)}
    with service.worker("-c", "3", "-Q", "lookup.opay.bulk") as process:
        (told,) = [worker for worker in workers(service.redis) if worker.name not in before]
        assert (told.pid, told.host, told.threads) == (process.child.pid, os.uname().nodename, 3)
        assert told.queues == ("lookup.opay.bulk",)
        assert (told.trouble, told.stalled) == (None, 0)
        assert told.name in " ".join(process.lines)
    assert {worker.name for worker in workers(service.redis)} == before


def _pid(service: Service, key: bytes) -> int:
    return int(service.redis.hget(key, "pid"))


def test_a_worker_that_takes_from_no_queue_any_more_says_so(service: Service) -> None:
    with service.worker("-Q", "lookup.opay.bulk") as process:
        service.producer.control.cancel_consumer("lookup.opay.bulk", reply=True, timeout=2)

        def told() -> str | None:
            return next(each for each in workers(service.redis) if each.pid == process.child.pid).trouble

        assert until(told, timeout=12) == "it takes from no queue"


def _passes(service: Service, name: str, seconds: float) -> None:
    """Let a worker that reports no more have reported so many seconds earlier, as time would."""
    for worker, text in service.redis.hgetall(LAST_REPORTS).items():
        report = json.loads(text)
        if report["name"] == name:
            service.redis.hset(LAST_REPORTS, worker, json.dumps({**report, "at": report["at"] - seconds}))


def test_a_worker_that_was_killed_is_silent_until_it_is_swept_away(service: Service) -> None:
    with service.worker("-Q", "lookup.opay.bulk") as process:
        process.child.kill()
        process.child.wait(10)

        (key,) = [key for key in service.redis.keys("lookup:worker:*") if _pid(service, key) == process.child.pid]
        assert 0 < service.redis.ttl(key) <= 16
        service.redis.expire(key, 0)
        _passes(service, process.name, 15)
        found = presence(service.redis)
        assert process.name not in {worker.name for worker in found.living}
        (silent,) = [worker for worker in found.silent if worker.name == process.name]
        assert silent.queues == ("lookup.opay.bulk",)
        assert "killed" in silent.trouble
    assert service.redis.scard(WORKERS) == 2, "looking has removed nothing"
    forget_dead_workers(service.redis)
    assert service.redis.scard(WORKERS) == len(workers(service.redis)) == 1
    assert service.redis.hlen(LAST_REPORTS) == 2
    _passes(service, process.name, REMEMBERED_SECONDS)
    forget_dead_workers(service.redis)
    assert service.redis.hlen(LAST_REPORTS) == 1


def test_the_sweep_of_a_worker_removes_dead_ones(service: Service) -> None:
    service.redis.sadd(WORKERS, "one that died")
    Retention(service.redis, Bounds(3600, 1000), Bounds(3600, 1000)).sweep()
    assert not service.redis.sismember(WORKERS, "one that died")


def test_a_silent_worker_is_replaced_by_one_of_its_name_or_by_later_ones_for_its_queues() -> None:
    silent = SilentWorker("bulk@one", "one", ("lookup.opay.bulk", "lookup.afterpay.bulk"), 60, reported_at=1_000.0)

    def living(name: str, *queues: str, second: int) -> WorkerReport:
        started = datetime.fromtimestamp(second, UTC).isoformat()
        return WorkerReport(name, "one", 1, 4, "1", started, queues, messages=0, still=0)

    assert not silent.is_replaced([living("bulk@two", *silent.queues, second=900)]), "it was there before"
    assert not silent.is_replaced([living("bulk@two", silent.queues[0], second=1100)])
    assert silent.is_replaced([living(f"bulk@{queue}", queue, second=1100) for queue in silent.queues])
    assert silent.is_replaced([living("bulk@one", "lookup.opay.bulk", second=900)])
