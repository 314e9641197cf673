"""Workers tell that they are there, and that they are gone."""

import os

from cardtoken.presence import WORKERS, workers
from tests.harness import Service, until


def test_a_worker_is_there_from_its_start_to_its_end(service: Service) -> None:
    before = {worker.name for worker in workers(service.redis)}
    with service.worker("-c", "3", "-Q", "lookup.opay.bulk") as process:
        (told,) = [worker for worker in workers(service.redis) if worker.name not in before]
        assert (told.pid, told.host, told.threads) == (process.child.pid, os.uname().nodename, 3)
        assert told.queues == ("lookup.opay.bulk",)
        assert told.trouble is None
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


def test_a_worker_that_was_killed_is_gone_when_it_has_told_nothing_for_a_while(service: Service) -> None:
    with service.worker("-Q", "lookup.opay.bulk") as process:
        process.child.kill()
        process.child.wait(10)

        (key,) = [key for key in service.redis.keys("lookup:worker:*") if _pid(service, key) == process.child.pid]
        assert 0 < service.redis.ttl(key) <= 16
        service.redis.expire(key, 0)  # as time would
        assert process.child.pid not in {worker.pid for worker in workers(service.redis)}
    assert service.redis.scard(WORKERS) == len(workers(service.redis)) == 1
