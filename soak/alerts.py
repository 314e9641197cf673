"""Every alert, made to fire by a real fault, ended by the command of its runbook, and seen to end."""

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from sandbox.environment import PRIVATE_KEY
from sandbox.shifted_clock import ShiftedServer
from sandbox.waiting import until
from soak.host import replaced
from soak.prometheus import alerts as all_alerts
from soak.record import Plan, Record
from soak.watched import Stream, Watched

#: How much faster Prometheus' time passes in the full form.
_FACTOR: Final = 30.0
_OPAY, _AFTERPAY, _BULK, _OTHER_BULK = (
    "lookup.opay.interactive", "lookup.afterpay.interactive", "lookup.opay.bulk", "lookup.afterpay.bulk",
)  # fmt: skip
#: Of different lengths: alert after alert wants to see some of them end in each moment.
_SLOW: Final = ("slow-5.2", "slow-6.8", "slow-5.8", "slow-6.2", "slow-5.5")
#: A worker of a release with a fault, which takes from a queue.
_FAULTY: Final = """
import sys
from tasks.processor import MessageProcessor

def fail(*_args, **_kwargs):
    raise LookupError("a fault of this release")

MessageProcessor.process = fail
sys.argv = ["celery", "-A", "tasks", "worker", "-l", "INFO", "-n", "faulty@%h", "-Q", "lookup.afterpay.bulk"]
from celery.__main__ import main
main()
"""


def alerts(plan: Plan) -> Record:
    """Each alert fires because of a real fault, and ends by its runbook's command."""
    troubles: list[str] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        watched = Watched(stack, Path(folder), _FACTOR / plan.scale)
        stories = _Stories(watched)
        stack.callback(stories.close)
        try:
            stories.begin()
            plan.progress(0, 3, "each part of the service has its troubles")
            together = [_Told(each, troubles) for each in stories.side_by_side()]
            for each in together:
                each.join()
            if not troubles:
                plan.progress(1, 3, "Redis, and all workers")
                stories.end()
        except Exception as error:  # noqa: BLE001 - reported with what was seen until then
            troubles.append(f"{type(error).__name__}: {error}")
        missing = sorted(set(all_alerts()) - set(watched.watch.figures))
        figures = dict(watched.watch.figures)
    return Record(
        goal="each fires by a real fault, and ends by the command of its runbook",
        passed=not troubles and not missing,
        done={"alerts": len(figures), "times as fast": round(_FACTOR / plan.scale)},
        figures={
            **figures,
            **{f"trouble {n}": each for n, each in enumerate(troubles, 1)},
            "not seen": ", ".join(missing) or "none",
        },
    )


class _Told(threading.Thread):
    """One story, beside others."""

    def __init__(self, story: Callable[[], None], troubles: list[str]) -> None:
        super().__init__(daemon=True)
        self._story = story
        self._troubles = troubles
        self.start()

    def run(self) -> None:
        try:
            self._story()
        except Exception as error:  # noqa: BLE001 - reported
            self._troubles.append(f"{self._story.__name__}: {type(error).__name__}: {error}")


class _Stories:
    """What happens to the service. Those side by side have lanes and queues of their own."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._watch = watched.watch
        self._behind = ShiftedServer(watched.url("worker"), 0)

    def close(self) -> None:
        """Close what is no process."""
        self._behind.close()

    def begin(self) -> None:
        """Start what is well, and see that nothing fires."""
        it, watch = self._watched, self._watch
        self._shop, self._office, self._attic = it.host("shop"), it.host("office"), it.host("attic")
        self._opay = self._shop.worker("opay", _OPAY, "-c", "12")
        self._afterpay = self._shop.worker("afterpay", _AFTERPAY, REDIS_URL=self._behind.url)
        self._few = self._office.worker("few", _BULK, "-c", "2")
        for worker in (self._opay, self._afterpay, self._few):
            worker.ready()
        it.streams = {("opay", "interactive"): Stream(), ("opay", "bulk"): Stream()}
        counted = "min(max by (lane) (cardtoken_lookups_total{provider='opay', status='found'})) > 3"
        until(lambda: True if it.prometheus.ask(counted) else None, 60, 0.1)
        watch.quiet()

    def side_by_side(self) -> list[Callable[[], None]]:
        """Return the stories that need not wait for each other."""
        return [
            self.shoppers_of_opay,
            self.shoppers_of_afterpay,
            self.bulk,
            self.other_bulk,
            self.lists,
            self.clock_and_files,
        ]

    def shoppers_of_opay(self) -> None:
        it, watch, shop = self._watched, self._watch, self._shop
        shop.key.write_text("a key that was rotated")
        [refused] = watch.fire(("CardtokenAuthentication", {"provider": "opay"}))
        (shop.folder / "new.key").write_text(PRIVATE_KEY)
        it.cure(refused, host=shop)
        watch.clear(refused)

        it.streams["opay", "interactive"] = Stream(_SLOW)
        waits, slowest, *burns = watch.fire(
            ("CardtokenInteractiveWaits", {"queue": _OPAY}),
            ("CardtokenInteractiveSlow", {"provider": "opay"}),
            ("CardtokenLatencyBurnFast", {"provider": "opay"}),
            ("CardtokenLatencyBurnSlow", {"provider": "opay"}),
        )
        it.cure(waits, slowest, *burns, host=shop)
        watch.clear(waits, slowest)
        it.streams["opay", "interactive"] = Stream()
        it.operator_types("cardtoken circuit close opay")
        watch.clear(*burns)

    def shoppers_of_afterpay(self) -> None:
        it, watch = self._watched, self._watch
        it.operator_types('cardtoken circuit open afterpay --account second --for 1d --reason "maintenance"')
        it.streams["afterpay", "interactive"] = Stream()
        time.sleep(1)
        it.simulator.behave(afterpay="down")
        down = watch.fire(
            ("CardtokenCircuitOpen", {"provider": "afterpay"}),
            ("CardtokenAnswersBurnFast", {"provider": "afterpay"}),
            ("CardtokenAnswersBurnSlow", {"provider": "afterpay"}),
            ("CardtokenDeadLetters", {}),
        )
        [held] = watch.fire(("CardtokenCircuitHeld", {"provider": "afterpay", "account": "second"}))
        it.cure(held)
        watch.clear(held)
        # Its command has let lookups through for a moment.
        watch.still_fires(*down)
        it.simulator.behave(afterpay="normal")
        with replaced([self._afterpay]):
            it.cure(*down, host=self._shop, PID=str(self._afterpay.child.pid))
        watch.clear(*down)

    def bulk(self) -> None:
        it, watch, office, stream = self._watched, self._watch, self._office, ("opay", "bulk")
        it.streams[stream] = Stream(age=3700)
        [burns] = watch.fire(("CardtokenBulkBurn", {"provider": "opay"}))
        office.set(BULK_DEADLINE="7200")
        with replaced([self._few]):
            it.cure(burns, host=office, PID=str(self._few.child.pid))
        watch.clear(burns)

        it.streams[stream] = Stream(("slow-2",), age=2760)
        [waits] = watch.fire(("CardtokenBulkWaits", {"queue": _BULK}))
        workers = [self._few, *it.cure(waits, host=office)]
        watch.clear(waits)

        # While the circuit of OPay is held, bulk lookups wait.
        until(lambda: True if it.service.redis.zcard("lookup:leases") > 5 else None, 120)
        for worker in workers:
            worker.kill()
        it.streams[stream] = Stream()
        [dying] = watch.fire(("CardtokenWorkersDie", {}))
        it.cure(dying, host=office, QUEUES=_BULK)
        watch.clear(dying)

    def other_bulk(self) -> None:
        it, watch, attic, redis = self._watched, self._watch, self._attic, self._watched.service.redis
        it.send("afterpay", "bulk", Stream())
        [unconsumed] = watch.fire(("CardtokenQueueUnconsumed", {"queue": _OTHER_BULK}))
        [good] = it.cure(unconsumed, host=attic)
        watch.clear(unconsumed)

        faulty = attic.start(["python", "-c", _FAULTY]).ready()
        good.end()
        faulty.give_up()
        it.send("afterpay", "bulk", Stream(("visa~released",)))
        [unexpected] = watch.fire(("CardtokenUnexpectedErrors", {}))
        it.cure(unexpected, host=attic, PID=str(faulty.child.pid))
        attic.set(AFTERPAY_BASE_URL=f"{it.simulator.url}/wrong")
        before = attic.worker("before", _OTHER_BULK).ready()
        watch.clear(unexpected)
        until(lambda: None if redis.xlen("lookup:quarantine") else True, 30)

        redis.lpush(_OTHER_BULK, b"not a message")
        [odd] = watch.fire(("CardtokenQuarantine", {}))
        it.cure(odd)
        watch.clear(odd)

        it.streams["afterpay", "bulk"] = Stream()
        [fail] = watch.fire(("CardtokenLookupsFail", {"provider": "afterpay", "lane": "bulk"}))
        attic.set(AFTERPAY_BASE_URL=it.simulator.url)
        with replaced([before]):
            it.cure(fail, host=attic, PID=str(before.child.pid))
        watch.clear(fail)

    def lists(self) -> None:
        it, watch, redis = self._watched, self._watch, self._watched.service.redis
        it.send("opay", "bulk", Stream(), queue="lookup.opay.bluk")
        [stray] = watch.fire(("CardtokenStrayMessages", {}))
        it.cure(stray, LIST="lookup.opay.bluk", QUEUE=_BULK)
        watch.clear(stray)

        redis.xgroup_create("token-records:default", "gone", id="0")
        [(_, entry)] = redis.xrange("token-records:default", count=1)
        for _ in range(11):
            with redis.pipeline(transaction=False) as pipeline:
                for _ in range(1000):
                    pipeline.xadd("token-records:default", entry)
                pipeline.execute()
        [behind] = watch.fire(("CardtokenConsumerLags", {"group": "gone"}))
        redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] / 0.92))
        [full] = watch.fire(("CardtokenRedisMemory", {}))
        it.cure(full, behind)
        watch.clear(full, behind)

    def clock_and_files(self) -> None:
        it, watch, shop = self._watched, self._watch, self._shop
        told = shop.stand_in("chronyc")
        self._behind.ahead = -8
        [wrong] = watch.fire(("CardtokenClockWrong", {}))
        it.cure(wrong, host=shop)
        assert told.read_text() == "makestep\n"
        self._behind.ahead = 0
        watch.clear(wrong)

        (shop.folder / "good.json").write_text(shop.accounts.read_text())
        shop.accounts.write_text("{")
        [broken] = watch.fire(("CardtokenConfigReloadFailed", {}))
        it.cure(broken, host=shop)
        watch.clear(broken)

    def end(self) -> None:
        """Do what all of the service suffers from, one after the other."""
        it, watch, redis = self._watched, self._watch, self._watched.service.redis
        it.streams["opay", "bulk"] = Stream(("slow-6",))
        until(lambda: True if redis.zcard("lookup:leases") > 2 else None)
        redis.replicaof("127.0.0.1", "1")
        [overdue] = watch.fire(("CardtokenClaimsOverdue", {}))
        it.cure(overdue)
        watch.clear(overdue)
        it.streams.clear()

        it.server.kill()
        [away] = watch.fire(("CardtokenRedisAway", {}))
        it.cure(away)
        watch.clear(away)

        for worker in list(it.workers):
            worker.kill()
        [none] = watch.fire(("CardtokenNoWorkers", {}))
        it.cure(none, host=self._shop)
        watch.clear(none)
        watch.quiet()


RUNS: Final = {"alerts": alerts}
