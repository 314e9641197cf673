"""Variables of another Celery application on the same host change nothing here."""

import subprocess
import sys

from sandbox.environment import ROOT
from sandbox.redis_server import RedisServer
from sandbox.service import Service, Simulator

OTHERS = {
    "CELERY_BROKER_URL": "redis://:hunter2@127.0.0.1:1/5",
    "CELERY_BROKER_READ_URL": "redis://127.0.0.1:1/5",
    "CELERY_BROKER_WRITE_URL": "amqp://127.0.0.1:1",
    "BROKER_URL": "redis://127.0.0.1:1/6",
    "CELERY_RESULT_BACKEND": "nonsense://127.0.0.1",
    "RESULT_BACKEND": "db+sqlite:///x.sqlite",
    "CELERY_LOADER": "no.such.loader:Loader",
    "CELERY_CONFIG_MODULE": "no_such_module",
    "CELERY_TASK_ALWAYS_EAGER": "1",
    "CELERYD_NODES": "w1 w2",
    "DJANGO_SETTINGS_MODULE": "shop.settings",
}


def test_a_worker_and_its_remote_control_ignore_them_and_say_so_once(simulator: Simulator) -> None:
    with RedisServer() as server:
        service = Service(server, simulator)
        environment = {**service.environment, **OTHERS}
        with service.worker(**OTHERS) as worker:
            sent = service.send("opay", [{"opay_token": "OPAY_TOKEN_visa"}])
            assert service.results(sent, 1)[0]["status"] == "found"
            done = subprocess.run(
                [sys.executable, "-m", "celery", "-b", "redis://127.0.0.1:1/7", "-A", "tasks", "inspect", "ping"],
                cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert "1 node online" in done.stdout
        (line,) = [line for line in worker.lines if "CELERY_BROKER_URL" in line]
        for name in ("CELERY_RESULT_BACKEND", "CELERY_LOADER", "CELERY_TASK_ALWAYS_EAGER", "CELERYD_NODES"):
            assert name in line
        assert "hunter2" not in worker.log + done.stderr
        assert "Traceback" not in worker.log
