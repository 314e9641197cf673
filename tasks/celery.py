"""The Celery application, which ``celery -A tasks`` finds here, and Celery's signals, each forwarded to the worker.

Importing this module reads the environment and ``.env``, and ends the process where these are wrong: it is the program,
and no other module of this package does either.
"""

from cardtoken import streams
from tasks import ending

if ending.program():
    # Before the imports below, which take a second, and before anything is written.
    ending.take_signals()
    streams.repair()
    streams.ignore_failures()

import logging
import os
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    celeryd_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from cardtoken.connection import Endpoint
from cardtoken.contract import Lane
from cardtoken.keys import queue_name, task_name
from config import celeryconfig, inherited, queues
from config.errors import ConfigurationError, refuse
from config.settings import Configuration
from config.source import Source
from tasks import task
from tasks.broker import pool
from tasks.broker.channel import HEALTH_CHECK
from tasks.broker.connection import amqp_of
from tasks.broker.events import BatchedEvents
from tasks.providers import PROVIDERS
from tasks.telemetry import logs, stacks
from tasks.telemetry.redaction import Redactor
from tasks.telemetry.uncaught import describe_all_errors
from tasks.worker import Worker

logger = logging.getLogger(__name__)


def _configured() -> Configuration:
    try:
        return source.load()
    except ConfigurationError as error:
        refuse(error)


def _celery_settings(endpoint: Endpoint) -> dict[str, Any]:
    """Return those of Celery's settings that the environment decides.

    The worker's connections are the endpoint's. The options are for kombu, which checks these connections so often, and
    for Flower, which connects to the broker by itself for its page of queues.
    """
    options: dict[str, Any] = {"health_check_interval": HEALTH_CHECK, "socket_timeout": endpoint.socket_timeout}
    if endpoint.sentinel_master:
        options["master_name"] = endpoint.sentinel_master
    if endpoint.sentinel_password:
        options["sentinel_kwargs"] = {"password": endpoint.sentinel_password}
    chosen: dict[str, Any] = {"broker_url": endpoint.url, "broker_transport_options": options}
    if endpoint.url.startswith("rediss://"):
        files = {"ssl_ca_certs": endpoint.ca_file, "ssl_certfile": endpoint.cert_file, "ssl_keyfile": endpoint.key_file}
        named = {name: str(path) for name, path in files.items() if path is not None}
        chosen["broker_use_ssl"] = {"ssl_cert_reqs": "required", **named}
    return chosen


_ignored = inherited.forget(os.environ)
source = Source({name: provider.account for name, provider in PROVIDERS.items()})
configuration = _configured()
pool.install()
endpoint = configuration.settings.endpoint()
# Without fixups: DJANGO_SETTINGS_MODULE in the environment is another application's.
app = Celery("cardtoken", set_as_current=True, amqp=amqp_of(endpoint), events=BatchedEvents, fixups=[])
app.config_from_object(celeryconfig)
app.conf.update(_celery_settings(endpoint))
app.conf.task_queues = queues.queues(configuration.accounts)
app.conf.task_routes = {
    task_name(provider): {"queue": queue_name(provider, Lane.BULK)} for provider in configuration.accounts
}

# Where `celery -A tasks flower` finds its settings, unless the environment names others.
os.environ.setdefault("FLOWER_CONF", str(Path(celeryconfig.__file__).with_name("flowerconfig.py")))

_redactor = Redactor(configuration.secrets)
if ending.program():
    describe_all_errors()
    stacks.show_on_signal()
if ending.program() == "worker":
    logs.begin(configuration.settings.log_format, _redactor)
if _ignored:
    logger.warning(
        "ignored, because this service has settings of its own (REDIS_URL, see .env.example): %s "
        "(-b, --result-backend, --loader and --config set some of them)",
        ", ".join(_ignored),
    )
for _name, _meant in configuration.misspelt:
    logger.warning("%s is set, and there is no such setting; did you mean %s?", _name, _meant)

worker = Worker(source, configuration, endpoint, _redactor)
for _provider in PROVIDERS:
    task.register(app, _provider, lambda: worker.processor)


@after_setup_logger.connect(weak=False)
@after_setup_task_logger.connect(weak=False)
def _log(logger: logging.Logger, **_: Any) -> None:
    logs.render([logger], configuration.settings.log_format, _redactor)


@celeryd_init.connect(weak=False)
def _build(sender: str, options: dict[str, Any], conf: Any, **_: Any) -> None:
    worker.build(sender, options, conf)


@worker_ready.connect(weak=False)
def _start(**_: Any) -> None:
    worker.start()


@worker_shutting_down.connect(weak=False)
def _obey_signal(**_: Any) -> None:
    worker.obey_signal()


class _Quiet(bootsteps.StartStopStep):
    """Closed first when the worker ends, whatever asked it to: a signal, or ``celery control shutdown``."""

    def close(self, _: Any) -> None:
        worker.quiet()


app.steps["worker"].add(_Quiet)


@worker_shutdown.connect(weak=False)
def _stop(**_: Any) -> None:
    worker.stop()
