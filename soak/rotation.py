"""Keys that are rotated under load: the accounts file changes, and the providers drop the former keys soon after."""

import json
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sandbox.environment import CLIENT, CLIENT_SECRET, MERCHANT, PRIVATE_KEY
from sandbox.ledger import Ledger
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator
from soak.record import Plan, Record

#: Lookups a second, in messages of this size.
_RATE: Final = 500
_LIST: Final = 10
#: Seconds after which the provider drops a key that has been replaced, and between two rotations.
_BOTH_HOLD: Final = 5.0
_EVERY: Final = 8.0
_PATIENCE: Final = 30.0


def rotation(plan: Plan) -> Record:
    """500 lookups a second, half of them each provider's, while both keys are rotated again and again."""
    times = plan.of(6)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        simulator = stack.enter_context(Simulator("--latency", "0.02"))
        service = Service(stack.enter_context(RedisServer()), simulator)
        keys = _Keys(folder / "accounts.json", simulator)
        for name in ("OPAY_MERCHANT_ID", "OPAY_PRIVATE_KEY", "AFTERPAY_CLIENT_ID", "AFTERPAY_CLIENT_SECRET"):
            del service.environment[name]
        for _ in range(2):
            stack.enter_context(service.worker(PROVIDER_ACCOUNTS_FILE=str(keys.file)))
        ledger = Ledger(service)
        load = _Load(ledger)
        time.sleep(2)
        for number in range(times):
            plan.progress(number, times, "keys are rotated")
            keys.rotate(in_place=bool(number % 2))
        seconds = load.end()
        ledger.drain(_PATIENCE, lambda out: plan.progress(out, len(ledger.sent), "the last results"))
        results = list(ledger.results())
        statuses = Counter((result["error"] or {}).get("category") or result["status"] for result in results)
        rate = len(ledger.sent) / seconds
        refused = sum(simulator.stats()["refused"].values())
    slowest = max(keys.old_used_for)
    return Record(
        goal="500 lookups a second, all found by one call, and the former key is not used after 5 s",
        passed=statuses == Counter(found=len(ledger.sent))
        and all(result["attempts"] == 1 for result in results)
        and not refused
        and slowest < _BOTH_HOLD
        and rate > 0.9 * _RATE,
        done={"rotations": times, "lookups": len(ledger.sent), "seconds": round(seconds)},
        figures={
            "lookups a second": round(rate),
            "authentication": statuses["authentication"],
            "refused calls": refused,
            "former key used for at most, s": round(slowest, 1),
        },
    )


class _Keys:
    """The keys of both providers, as they and the accounts file have them."""

    def __init__(self, file: Path, simulator: Simulator) -> None:
        self.file = file
        #: Seconds after each change of the file for which the former OPay key was still used.
        self.old_used_for: list[float] = []
        self._simulator = simulator
        self._number = 0
        self._key, self._secret = PRIVATE_KEY, CLIENT_SECRET
        self._write(in_place=True)

    def rotate(self, *, in_place: bool) -> None:
        """Let the providers have new keys beside the old ones, write the file, and let them drop the old ones."""
        begun = time.monotonic()
        self._number += 1
        former = self._key, self._secret
        self._key, self._secret = f"OPAYPRV-rotated-{self._number}", f"secret-rotated-{self._number}"
        self._simulator.accept("opay", MERCHANT, former[0], self._key)
        self._simulator.accept("afterpay", CLIENT, former[1], self._secret)
        self._write(in_place=in_place)
        written, last, used = time.monotonic(), 0.0, -1
        while time.monotonic() - written < _BOTH_HOLD:
            old, _ = self._simulator.accepted("opay", MERCHANT)
            if old > used:
                used, last = old, time.monotonic() - written
            time.sleep(0.1)
        self.old_used_for.append(last)
        self._simulator.accept("opay", MERCHANT, self._key)
        self._simulator.accept("afterpay", CLIENT, self._secret)
        time.sleep(max(0.0, begun + _EVERY - time.monotonic()))

    def _write(self, *, in_place: bool) -> None:
        text = json.dumps(
            {
                "opay": {"default": {"merchant_id": MERCHANT, "private_key": self._key}},
                "afterpay": {"default": {"client_id": CLIENT, "client_secret": self._secret}},
            }
        )
        if in_place:
            self.file.write_text(text, encoding="utf-8")
        else:
            fresh = self.file.with_suffix(".new")
            fresh.write_text(text, encoding="utf-8")
            fresh.rename(self.file)


class _Load:
    """Lookups at an even rate, from a thread of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stop = threading.Event()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def end(self) -> float:
        """Stop. Return for how many seconds there was load."""
        self._stop.set()
        self._thread.join()
        return time.monotonic() - self._begun

    def _send(self) -> None:
        pushed = 0
        while not self._stop.wait(0.01):
            due = int((time.monotonic() - self._begun) * _RATE / _LIST)
            names = [
                ("opay" if number % 2 else "afterpay", [f"visa~{number}-{each}" for each in range(_LIST)])
                for number in range(pushed, due)
            ]
            self._ledger.push([self._ledger.prepare(provider, references) for provider, references in names])
            pushed = max(pushed, due)


RUNS: Final = {"rotation": rotation}
