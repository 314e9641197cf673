"""No secret and no card holder's data on any surface: planted, sent through everything there is, and searched for.

They may be in full in the request queues with claims and delayed set, the result queues, the dead letters and the
quarantine, and nowhere else.
"""

import base64
import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from celery import Celery
from celery.events import EventReceiver
from kombu import Connection

from sandbox.environment import ROOT
from sandbox.redis_server import RedisServer, free_port
from sandbox.service import OPERATOR, Service, Simulator, WorkerProcess
from sandbox.waiting import until
from simulator.access import TOKEN_PREFIX
from tests.browser.flower import Flower
from tests.cli.terminal import CARDTOKEN, environment
from tests.telemetry.envelopes import SentryServer

MERCHANT = "256600000000001"
MERCHANT_KEY = "OPAYPRV-canary/8c1f+4d77"
CLIENT_SECRET = "client:canary/5e2b+91aa"
#: Those that are to take their places while the worker runs.
ROTATED_KEY, ROTATED_SECRET = "OPAYPRV-rotated/1b7a+92cd", "client:rotated/c04d+7e1b"
WRONG_KEY, BROKEN_KEY = "OPAYPRV-wrong/44f0+18ab", "OPAYPRV-broken/9d3e+60cf"
REDIS_PASSWORD = "redis-canary/77d0+c3fe"
CARD = "cardcanary6b9a20"
METADATA = "metadata canary/4f+ü"
STRAY = "straycanary0d41e7"

#: Keys whose values may hold anything that a message, a result or a refused entry holds.
_FULL = re.compile(
    r"lookup\.[a-z]+\.(interactive|bulk)(\x06\x16\d)?|lookup:(claim|given-back|delayed):.*|token-records:.*"
    r"|lookup:dead-letters|lookup:quarantine"
)


def forms(canary: str) -> Iterator[str]:
    """What a secret may look like once it is encoded."""
    raw = canary.encode()
    yield canary
    yield json.dumps(canary)[1:-1]
    yield urllib.parse.quote(canary, safe="")
    yield urllib.parse.quote_plus(canary)
    yield raw.hex()
    yield raw.hex().upper()
    for lead in range(3):
        # In the middle of something longer: its first and last characters depend on the neighbours.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * lead + raw).decode().rstrip("=")[2 if lead else 0 :][2:-2]


def found_in(text: str, canaries: dict[str, str]) -> list[str]:
    return [name for name, canary in canaries.items() if any(form in text for form in forms(canary))]


class Surfaces:
    """All that came out, by where."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def add(self, where: str, text: str) -> None:
        self.said[where] = self.said.get(where, "") + "\n" + text


class Events:
    """Every Celery event but those that a producer tells of itself, which is not for us to keep it from."""

    def __init__(self, url: str) -> None:
        self.seen: list[str] = []
        self._connection = Connection(url)
        self._receiver = EventReceiver(
            self._connection,
            handlers={"*": self._saw},
            app=Celery(broker=url, changes=dict(OPERATOR)),  # Celery adds to it
        )
        threading.Thread(target=self._receive, daemon=True).start()

    def _saw(self, event: dict[str, Any]) -> None:
        if event["type"] != "task-sent":
            self.seen.append(repr(event))

    def _receive(self) -> None:
        try:
            self._receiver.capture(limit=None, timeout=None, wakeup=False)
        except Exception as error:  # noqa: BLE001 - the server ends before it does
            self.seen.append(type(error).__name__)


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("accounts") / "accounts.json"
    path.write_text(accounts_with(MERCHANT_KEY, CLIENT_SECRET))
    return path


def accounts_with(key: str, secret: str) -> str:
    return json.dumps(
        {
            "opay": {"default": {"merchant_id": MERCHANT, "private_key": key}},
            "afterpay": {"default": {"client_id": "canary", "client_secret": secret}},
        }
    )


@pytest.mark.timeout(300)  # it searches all that a service writes, on whatever else the machine does
def test_planted_secrets_appear_on_no_surface(accounts: Path, tmp_path: Path) -> None:
    surfaces = Surfaces()
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(password=REDIS_PASSWORD))
        simulator = stack.enter_context(Simulator("--accounts", str(accounts)))
        sentry = stack.enter_context(SentryServer())
        service = Service(server, simulator)
        for name in [each for each in service.environment if each.startswith(("OPAY_", "AFTERPAY_"))]:
            if not name.endswith("_BASE_URL"):
                del service.environment[name]
        port = free_port()
        service.environment |= {
            "PROVIDER_ACCOUNTS_FILE": str(accounts),
            "SENTRY_DSN": sentry.dsn,
            "SENTRY_TRACES_SAMPLE_RATE": "1",
            "LEASE_SECONDS": "2",
            "HTTP_TOTAL_TIMEOUT": "2",
            "BULK_DEADLINE": "15",  # else bulk lookups that fail are tried again for an hour
        }
        events = Events(server.url)
        flower = stack.enter_context(Flower(service.environment, tmp_path, "--logging=debug"))
        with service.worker(level="DEBUG", METRICS_PORT=str(port), RETRY_MAX_ATTEMPTS="5") as worker:
            until(lambda: True if flower.get("/api/workers?refresh=1").json() else None)
            tasks = everything(service)
            rotated(service, accounts, worker)
            commands(service, surfaces, tmp_path)
            surfaces.add("metrics", requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text)
            pages = ["/", "/tasks", "/workers", "/broker", "/about", "/metrics", f"/worker/{worker.name}", "/api/tasks"]
            pages += ["/api/workers?refresh=1", "/api/queues/length", "/api/task/types"]
            pages += [f"{page}/{task_id}" for task_id in tasks for page in ("/task", "/api/task/info")]
            for path in pages:
                surfaces.add(f"Flower {path}", flower.get(path).text)
            rows = {"draw": 1, "start": 0, "length": 500, "order[0][column]": 0, "columns[0][data]": "name"}
            surfaces.add("Flower rows", flower.get("/tasks/datatable?" + urllib.parse.urlencode(rows)).text)
            inspect = service.producer.control.inspect(timeout=1)
            for what in ("active", "reserved", "scheduled", "revoked", "stats", "conf", "report"):
                surfaces.add(f"inspect {what}", repr(getattr(inspect, what)()))
            surfaces.add(
                "ps", "\n".join(" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))
            )
            assert worker.stop() == 0
            surfaces.add("log at DEBUG", worker.log)
        accounts.write_text(accounts_with(MERCHANT_KEY, CLIENT_SECRET), encoding="utf-8")
        service.simulator.accept("opay", MERCHANT, MERCHANT_KEY)
        service.simulator.accept("afterpay", "canary", CLIENT_SECRET)
        crashes(service, surfaces, tmp_path)
        misconfigured(service, surfaces)
        customers = people(service)
        surfaces.add("where it may be", json.dumps(service.entries("token-records:default"), ensure_ascii=False))
        surfaces.add("Redis' other keys", elsewhere(service))
        flower.child.stop()
        surfaces.add("Flower's log", "\n".join(flower.lines))
        for number, (path, headers, body) in enumerate(sentry.raw):
            surfaces.add("Sentry", f"{number} {path} {headers} {body.decode(errors='replace')}")
        surfaces.add("Celery events", "\n".join(events.seen))
    canaries = {
        "private key": MERCHANT_KEY,
        "client secret": CLIENT_SECRET,
        "rotated key": ROTATED_KEY,
        "rotated client secret": ROTATED_SECRET,
        "wrong key": WRONG_KEY,
        "key in a broken file": BROKEN_KEY,
        "Redis password": REDIS_PASSWORD,
        "access token": TOKEN_PREFIX,
        "card token": CARD,
        "metadata": METADATA,
        "bytes that are no message": STRAY,
        **customers,
    }
    assert len(customers) >= 6
    # It can be found: the places where it may be have it.
    assert set(found_in(surfaces.said.pop("where it may be"), canaries)) >= {"card token", "metadata", *customers}
    for where in ("Sentry", "Celery events", "metrics", "log at DEBUG", "Flower /tasks", "Flower rows", "ps"):
        assert len(surfaces.said[where]) > 400, where
    assert "task-retried" in surfaces.said["Celery events"]
    assert "transaction" in surfaces.said["Sentry"]
    leaks = {where: found for where, text in surfaces.said.items() if (found := found_in(text, canaries))}
    assert leaks == {}, {where: surfaces.said[where][:3000] for where in leaks}


def everything(service: Service) -> list[str]:
    """Each way that a lookup can go, of both providers; answers the task ids."""
    names = ("visa", "unicode", "timeout-1", "unavailable-2", "not-found", "code-20000", "code-02000", "echo-secrets",
             "malformed", "wrong-token", "redirect", "reset-1", "html-503", "rate-limited-1-0", "unauthorized-always",
             "status-500", "hang", "huge")  # fmt: skip
    metadata = {"note": METADATA}
    opay: list[Any] = [{"opay_token": f"OPAY_TOKEN_{name}~{CARD}", "metadata": metadata} for name in names]
    # What is no request: the token in a field that does not exist, as an id, as a list, as the account.
    opay += [
        {"opay_token": f"OPAY_TOKEN_visa~{CARD}", CARD: CARD},
        {"opay_token": [CARD]},
        {"opay_token": CARD, "lookup_id": f"order {CARD}"},
        {"opay_token": f"{CARD}-as-id", "lookup_id": f"{CARD}-as-id"},
        {"token": CARD, "metadata": METADATA},
        CARD,
    ]
    afterpay: list[Any] = [
        {"original_request_id": f"{name}~{CARD}", "metadata": metadata} for name in (*names, "unauthorized-1")
    ]
    counts = {}
    for lane in ("interactive", "bulk"):
        counts[service.send("opay", opay, lane=lane)] = len(opay)
        counts[service.send("afterpay", afterpay, lane=lane)] = len(afterpay)
        for one in (opay[0], opay[2], opay[5]):
            counts[service.send("opay", [one], lane=lane)] = 1
    counts[service.send("opay", [opay[0]], expires=0.001)] = 1
    revoked = service.send("opay", [opay[0]], countdown=2)
    service.producer.control.revoke(revoked)
    counts[revoked] = 1
    # Producers of their own kind.
    talkative = Celery("talkative", broker=service.server.url)
    talkative.conf.task_send_sent_event = True
    told = {"requests": [{**opay[0]}]}
    shown: list[dict[str, Any]] = [{}, {"kwargsrepr": repr(told), "argsrepr": CARD, "shadow": CARD}]
    for number, more in enumerate(shown):
        task_id = f"talkative-{number}"
        talkative.send_task(
            "lookup.opay", kwargs=told, queue="lookup.opay.bulk", task_id=task_id, headers={"note": CARD}, **more
        )
        counts[task_id] = 1
    for task_id, count in counts.items():
        service.results(task_id, count, timeout=60)
    # What is no message.
    for entry in (
        STRAY.encode(),
        json.dumps({"body": STRAY, "headers": {"id": STRAY}}).encode(),
        b"\xff" + CARD.encode(),
    ):
        service.redis.lpush("lookup.opay.bulk", entry)
        service.quarantined(entry)
    return list(counts)


def rotated(service: Service, accounts: Path, worker: WorkerProcess) -> None:
    """New keys while the worker runs: one that the provider refuses, good ones, and then a file that is broken."""

    def changed(text: str, said: str) -> None:
        before = worker.log.count(said)
        accounts.write_text(text, encoding="utf-8")
        until(lambda: True if worker.log.count(said) > before else None)

    def ask(*names: str) -> None:
        opay = service.send("opay", [{"opay_token": f"OPAY_TOKEN_{name}~{CARD}r"} for name in names])
        afterpay = service.send("afterpay", [{"original_request_id": f"{name}~{CARD}r"} for name in names])
        for task in (opay, afterpay):
            service.results(task, len(names), timeout=60)

    service.simulator.accept("opay", MERCHANT, ROTATED_KEY)
    service.simulator.accept("afterpay", "canary", ROTATED_SECRET)
    changed(accounts_with(WRONG_KEY, ROTATED_SECRET), "new keys or accounts are in use")
    ask("visa")
    changed(accounts_with(ROTATED_KEY, ROTATED_SECRET), "new keys or accounts are in use")
    ask("visa", "echo-secrets")
    # As when quotation marks are lost: the key stands where a field's name does.
    broken = accounts_with(ROTATED_KEY, ROTATED_SECRET).replace("private_key", BROKEN_KEY)
    changed(broken, "the old keys or accounts stay in use")


def commands(service: Service, surfaces: Surfaces, folder: Path) -> None:
    """Each command, as a person and as a program calls it."""
    env = environment(service.server.url)

    def run(*args: str, stdin: str = "", may: Sequence[int] = (0,)) -> str:
        done = subprocess.run(
            [*CARDTOKEN, *args], cwd=ROOT, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in may, (args, done.stderr)
        surfaces.add(f"cardtoken {' '.join(args)}", done.stdout + done.stderr)
        return done.stdout

    for provider in ("opay", "afterpay"):  # which have been sick by now
        run("circuit", "close", provider, may=(0, 3))
    time.sleep(1.5)  # until the worker has heard of it
    token = f"OPAY_TOKEN_visa~{CARD}\n"
    note = ("--metadata", "note=x")
    for more in ((), ("--json",)):
        run("lookup", "opay", "-", *note, *more, stdin=token)
        run("lookup", "opay", "-", *more, stdin=f"OPAY_TOKEN_code-20000~{CARD}\n", may=(1,))
        run("lookup", "afterpay", "-", *more, stdin=f"visa~{CARD}\n")
        run("status", *more)
        run("health", *more)
        run("circuit", "list", *more)
        run("dead-letters", "list", *more)
        run("quarantine", "list", *more)
        run("results", "--count", "5", *more)
    identity = service.redis.xrevrange("lookup:dead-letters", count=1)[0][0].decode()
    run("dead-letters", "show", identity)
    run("dead-letters", "replay", identity, "--yes", "--reply-to", "default")
    run("dead-letters", "discard", "--category", "protocol", "--yes")
    stray = service.redis.xrevrange("lookup:quarantine", count=1)[0][0].decode()
    run("quarantine", "show", stray)
    run("quarantine", "release", stray, "--yes")
    run("circuit", "open", "afterpay", "--for", "1h", "--reason", "maintenance")
    run("circuit", "close", "afterpay")
    run("completion", "bash")
    cards = folder / "cards.csv"
    cards.write_text("opay_token\n" + "".join(f"OPAY_TOKEN_visa~{CARD}{n}\n" for n in range(3)))
    run("bulk", str(cards), "--out", str(folder / "out.jsonl"), "--reply-to", "canary-bulk")
    surfaces.add("what bulk writes without --reveal", (folder / "out.jsonl").read_text())
    assert (folder / "out.jsonl").stat().st_mode & 0o077 == 0
    env["REDIS_URL"] = service.server.url.replace(str(service.server.port), "1")
    run("status", may=(5,))
    env["REDIS_URL"] = f"redis://:{REDIS_PASSWORD}@no host"
    run("status", may=(2, 5))


def crashes(service: Service, surfaces: Surfaces, folder: Path) -> None:
    """A worker that is killed in the middle, one whose adapter breaks, and one that is stopped while it works."""
    sent = service.send("opay", [{"opay_token": f"OPAY_TOKEN_visa~{CARD}k"}], lane="bulk")
    killed = WorkerProcess({**service.environment, "FAULT_POINT": "asked:1"}, "-Q", "lookup.opay.bulk", level="DEBUG")
    until(killed.child.poll, 40)
    surfaces.add("log of a killed worker", killed.log)
    (folder / "sitecustomize.py").write_text(
        "import dataclasses, tasks.providers as all\n"
        "from tasks.providers import opay\n"
        "def broken(response, query):\n"
        "    raise KeyError(query.reference.get_secret_value() + query.account.private_key.get_secret_value())\n"
        "all.PROVIDERS['opay'] = dataclasses.replace(opay.PROVIDER, parse=broken)\n"
    )
    with service.worker("-Q", "lookup.opay.bulk", level="DEBUG", PYTHONPATH=f"{folder}:{ROOT}") as broken:
        assert service.results(sent, 1, timeout=60)[0]["error"]["category"] == "internal"
        service.send("opay", [{"opay_token": f"OPAY_TOKEN_hang~{CARD}"}], lane="bulk")
        time.sleep(0.5)
        assert broken.stop() == 0
        surfaces.add("log of a worker that breaks", broken.log)


def misconfigured(service: Service, surfaces: Surfaces) -> None:
    """What a process says of a configuration that it does not take."""
    wrong = [
        {"OPAY_PRIVATE_KEY": MERCHANT_KEY, "OPAY_MERCHANT_ID": "ä", "PROVIDER_ACCOUNTS_FILE": ""},
        {"REDIS_URL": f"redis://:{REDIS_PASSWORD}@host:port/0"},
        {"SENTRY_DSN": f"https://{CLIENT_SECRET}@"},
        {"OPAY_CODE_OVERRIDES": MERCHANT_KEY, "OPAY_MERCHANT_ID": "1", "OPAY_PRIVATE_KEY": MERCHANT_KEY},
        {"METRICS_PORT": MERCHANT_KEY, "LOG_FORMAT": CLIENT_SECRET},
    ]
    for given in wrong:
        worker = WorkerProcess({**service.environment, **given}, level="DEBUG")
        assert worker.child.wait(30) == 78, worker.log
        surfaces.add(f"complaint about {', '.join(given)}", worker.log)
    command = [sys.executable, "-m", "celery", "-A", "tasks", "flower", "--address=0.0.0.0"]
    done = subprocess.run(
        command, cwd=ROOT, env={**service.environment, "FLOWER_BASIC_AUTH": CLIENT_SECRET.replace(":", "")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    surfaces.add("complaint of Flower", done.stdout + done.stderr)


def people(service: Service) -> dict[str, str]:
    """Names, addresses and numbers of the card holders in the results."""
    found: dict[str, str] = {}
    for entry in service.entries("token-records:default"):
        customer = (json.loads(entry["result"]).get("token") or {}).get("customer") or {}
        found |= {f"{field} {value}": value for field, value in customer.items() if value and field != "id"}
    return found


def elsewhere(service: Service) -> str:
    """All names of keys, and the values of those that may not hold everything."""
    text = []
    read = {
        "string": service.redis.get,
        "hash": service.redis.hgetall,
        "set": service.redis.smembers,
        "list": lambda key: service.redis.lrange(key, 0, -1),
        "zset": lambda key: service.redis.zrange(key, 0, -1, withscores=True),
        "stream": service.redis.xrange,
    }
    for key in service.redis.keys("*"):
        name = key.decode(errors="replace")
        text.append(name)
        if not _FULL.fullmatch(name):
            text.append(repr(read[service.redis.type(key).decode()](key)))
    assert len(text) > 20
    return "\n".join(text)
