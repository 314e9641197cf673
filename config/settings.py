"""The environment, typed and checked once, at the start of a process."""

import json
import math
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cardtoken.connection import SCHEMES, Endpoint, check_url
from cardtoken.contract import Lane
from cardtoken.nearest import misspelt_variables
from cardtoken.other_lists import SEPARATORS, STEPS
from cardtoken.secret import Secret
from cardtoken.tls import check_certificate, check_readable
from config.accounts import FILE_VARIABLE, Accounts, plain_http_faults, read_accounts
from config.environment import DOTENV, put_secrets, secret_file_variables, variable_name
from config.errors import ConfigurationError, Fault, faults_of
from config.files import Content

#: Seconds. Between two calls for one bulk lookup are 30 on average, once its delays have grown to RETRY_MAX_DELAY=60.
_BULK_PACE = 25.0

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Retention = Annotated[int, Field(ge=1, le=31_536_000)]


def _readable(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise ValueError("holds no certificate in PEM form") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return path


_DSN = re.compile(r"https?://[^/@:\s]+(:[^/@\s]+)?@[^/@\s]+/([^?#\s]*/)?[0-9]+")

ReadableFile = Annotated[Path, AfterValidator(_readable)]


def _names(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _separators(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


def _steps(value: object) -> object:
    """Parse numbers, and ranges of numbers."""
    if not isinstance(value, str):
        return value
    steps: list[int] = []
    for part in filter(None, (each.strip() for each in value.split(","))):
        found = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", part, re.ASCII)
        if not found:
            raise ValueError("must be numbers and ranges, such as 0-9 or 0,3,6,9")
        steps += range(int(found[1]), int(found[2] or found[1]) + 1)
    return steps


Separator = Annotated[str, Field(min_length=1, max_length=16)]
Step = Annotated[int, Field(ge=0, le=255)]


class Pacing(BaseModel):
    """How one provider is called. Field ``x`` of provider ``opay`` is the variable ``OPAY_X``."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    #: Seconds after requested_at during which a not-found is retried.
    not_found_grace: float = Field(default=0, ge=0, le=86_400, allow_inf_nan=False, description="seconds, or 0")


class Settings(BaseSettings):
    """Everything but the provider accounts. The field ``retry_base_delay`` is the variable ``RETRY_BASE_DELAY``."""

    model_config = SettingsConfigDict(
        env_file=DOTENV,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    environment: str = Field(default="development", max_length=64, description="a short name, such as production")
    allow_plain_http: bool = Field(default=False, description="1 or 0; never 1 in production")

    redis_sentinel_master: str | None = Field(default=None, description="the primary's name in Sentinel, as mymaster")
    redis_sentinel_password: Secret | None = Field(default=None, description="the password of the sentinels")
    redis_ca_file: ReadableFile | None = Field(default=None, description="a readable PEM file of the authority")
    redis_cert_file: Path | None = Field(default=None, description="a PEM file with the client's certificate")
    redis_key_file: Path | None = Field(default=None, description="a PEM file with the key of REDIS_CERT_FILE")
    redis_url: Secret = Field(
        default=Secret("redis://127.0.0.1:6379/0"),
        description="redis://HOST:PORT/DB, rediss://… with TLS, or sentinel://HOST:PORT/DB;sentinel://HOST:PORT/DB",
    )

    http_connect_timeout: Seconds = Field(default=3, description="seconds, such as 3")
    http_read_timeout: Seconds = Field(default=10, description="seconds, such as 10")
    http_total_timeout: Seconds = Field(default=15, description="seconds for one attempt in all, such as 15")
    http_idle_timeout: Seconds = Field(default=20, description="seconds, such as 20")
    http_max_body_bytes: int = Field(default=1 << 20, ge=1024, le=1 << 28, description="bytes, 1024 or more")
    http_ca_file: ReadableFile | None = Field(default=None, description="a readable PEM file, used in place of certifi")
    http_use_env_proxies: bool = Field(default=False, description="1 to obey HTTPS_PROXY and NO_PROXY, else 0")
    provider_concurrency: int = Field(default=64, ge=1, le=1024, description="a whole number from 1 to 1024")

    retry_base_delay: Seconds = Field(default=0.5, description="seconds, such as 0.5")
    retry_max_delay: Seconds = Field(default=60, description="seconds, not below RETRY_BASE_DELAY")
    retry_max_attempts: int = Field(default=5, ge=1, le=100, description="a whole number from 1 to 100")
    retry_bulk_max_attempts: int | None = Field(
        default=None, ge=1, le=10_000, description="a whole number from 1 to 10000, or empty"
    )
    interactive_deadline: Seconds = Field(default=30, description="seconds, such as 30")
    bulk_deadline: Seconds = Field(default=3600, description="seconds, such as 3600")

    interactive_share: float = Field(default=0.2, ge=0, lt=1, allow_inf_nan=False, description="from 0 to below 1")

    lease_seconds: float = Field(default=30, ge=1, le=3600, allow_inf_nan=False, description="seconds, such as 30")
    delivery_limit: int = Field(default=5, ge=1, le=100, description="a whole number from 1 to 100")
    max_message_bytes: int = Field(default=4 << 20, ge=1024, le=1 << 29, description="bytes, 1024 or more")
    priority_separators: Annotated[tuple[Separator, ...], NoDecode, BeforeValidator(_separators)] = Field(
        default=SEPARATORS, max_length=8, description='JSON, such as ["\\u0006\\u0016", ":"], at most 8'
    )
    priority_steps: Annotated[tuple[Step, ...], NoDecode, BeforeValidator(_steps)] = Field(
        default=STEPS, max_length=64, description="at most 64 numbers from 0 to 255, such as 0-9 or 0,3,6,9"
    )
    result_queues: Annotated[
        frozenset[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}\z")]],
        NoDecode,
        BeforeValidator(_names),
    ] = Field(default=frozenset(), description="names of 1 to 64 of A-Z a-z 0-9 . _ - with commas between them")
    result_retention: Retention = Field(default=86_400, description="seconds, a whole number from 1")
    result_stream_maxlen: int = Field(default=1_000_000, ge=1, description="a whole number from 1")
    dead_letter_retention: Retention = Field(default=2_592_000, description="seconds, a whole number from 1")
    dead_letter_maxlen: int = Field(default=100_000, ge=1, description="a whole number from 1")

    log_format: Literal["json", "console"] | None = Field(
        default=None, description="json or console; empty: console on a terminal, else json"
    )
    metrics_port: int = Field(default=0, ge=0, le=65_535, description="a port, or 0 for no metrics")
    metrics_host: str = Field(default="127.0.0.1", description="an address of this host, such as 127.0.0.1")
    health_port: int = Field(default=0, ge=0, le=65_535, description="a port, or 0 for no probes")
    health_host: str = Field(default="127.0.0.1", description="an address of this host, such as 127.0.0.1")
    sentry_dsn: Secret | None = Field(default=None, description="https://KEY@HOST/PROJECT, as Sentry shows it")
    sentry_traces_sample_rate: float = Field(
        default=0, ge=0, le=1, allow_inf_nan=False, description="from 0 to 1: the share of messages traced"
    )

    fault_point: str | None = Field(
        default=None, pattern=r"^[a-z]+(:[1-9][0-9]{0,6})?\z", description="empty; tests kill a worker with it"
    )

    @field_validator("allow_plain_http", "fault_point")
    @classmethod
    def _never_in_production(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("environment") == "production":
            raise ValueError("is refused where ENVIRONMENT is production")
        return value

    @field_validator("redis_cert_file")
    @classmethod
    def _readable_certificate(cls, value: Path | None) -> Path | None:
        if value is not None:
            check_readable(value)
        return value

    @field_validator("redis_key_file")
    @classmethod
    def _key_of_the_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            check_readable(value)
        if "redis_cert_file" in info.data:  # else it has a fault of its own
            check_certificate(info.data["redis_cert_file"], value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: Secret, info: ValidationInfo) -> Secret:
        url = value.get_secret_value()
        check_url(url, SCHEMES)
        if url.startswith("sentinel://") and not info.data.get("redis_sentinel_master"):
            raise ValueError("is sentinel://, so REDIS_SENTINEL_MASTER is needed")
        return value

    @field_validator("sentry_dsn")
    @classmethod
    def _a_dsn(cls, value: Secret | None) -> Secret | None:
        if value is not None and not _DSN.fullmatch(value.get_secret_value()):
            raise ValueError("is not a DSN")
        return value

    @field_validator("metrics_host", "health_host")
    @classmethod
    def _an_address(cls, value: str) -> str:
        try:
            ip_address(value)
        except ValueError:
            if value != "localhost":
                raise ValueError("is not an IP address") from None
        return value

    @field_validator("health_port")
    @classmethod
    def _another_port(cls, value: int, info: ValidationInfo) -> int:
        if value and value == info.data.get("metrics_port"):
            raise ValueError("is METRICS_PORT too: each needs one of its own")
        return value

    @field_validator("retry_max_delay")
    @classmethod
    def _not_below_base(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("retry_base_delay", 0):
            raise ValueError("is below RETRY_BASE_DELAY")
        return value

    def endpoint(self) -> Endpoint:
        """Return how this service's Redis is reached."""
        password = self.redis_sentinel_password
        return Endpoint(
            self.redis_url.get_secret_value(),
            ca_file=self.redis_ca_file,
            cert_file=self.redis_cert_file,
            key_file=self.redis_key_file,
            sentinel_master=self.redis_sentinel_master or "",
            sentinel_password=password.get_secret_value() if password else None,
        )

    def max_attempts(self, lane: Lane) -> int:
        """Return how many calls a lookup may take.

        Bulk is patient unless a number is set: five calls would be over in seconds, and an outage is not. One call for
        each 25 s until ``BULK_DEADLINE``, and ten more, is what the default delays come to; with shorter delays they
        keep a lookup that always fails from thousands of calls.
        """
        if lane is Lane.INTERACTIVE:
            return self.retry_max_attempts
        if self.retry_bulk_max_attempts is not None:
            return self.retry_bulk_max_attempts
        if "retry_max_attempts" in self.model_fields_set:
            return self.retry_max_attempts
        return math.ceil(self.bulk_deadline / _BULK_PACE) + 10

    @classmethod
    def from_variables(cls, given: dict[str, str], contents: Mapping[str, Content]) -> tuple[Self | None, list[Fault]]:
        """Return the settings, or None, and the faults. ``contents``: of files, by their variable."""
        faults = put_secrets(cls, "", given, contents)
        values: Any = {name: given[name.upper()] for name in cls.model_fields if name.upper() in given}
        try:
            # Of ``.env`` all is in ``given``: as it was when the process started.
            return cls(_env_file=None, **values), faults
        except ValidationError as error:
            return None, faults + list(faults_of(error, cls, str.upper))


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of a process: its settings, and the accounts by provider and name."""

    settings: Settings
    accounts: Mapping[str, Accounts]
    pacing: Mapping[str, Pacing]
    #: Variables that are nearly ones of ours, and no setting: each with the one that may have been meant.
    misspelt: Sequence[tuple[str, str]] = ()

    @property
    def secrets(self) -> list[str]:
        """Return every secret in it, in clear text, for the redaction of logs and reports."""
        models = [self.settings, *(account for named in self.accounts.values() for account in named.values())]
        values = (getattr(model, name) for model in models for name in type(model).model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, Secret)]


def read_configuration(
    account_models: Mapping[str, type[BaseModel]], given: dict[str, str], contents: Mapping[str, Content]
) -> Configuration:
    """Check everything. Raises :class:`ConfigurationError` with all faults at once.

    ``account_models`` maps a provider's name to the model of its accounts, ``contents`` a variable that names a file to
    what is in it. ``given`` gets the secrets that are in files.
    """
    settings, faults = Settings.from_variables(given, contents)
    accounts, account_faults = read_accounts(account_models, given, contents)
    faults += account_faults
    pacing: dict[str, Pacing] = {}
    for provider in account_models:
        variable = partial(variable_name, provider)
        values = {name: given[variable(name)] for name in Pacing.model_fields if variable(name) in given}
        try:
            pacing[provider] = Pacing.model_validate(values)
        except ValidationError as error:
            faults += faults_of(error, Pacing, variable)
    # All faults are reported, also where the settings have some: ALLOW_PLAIN_HTTP then counts as on if it is given.
    allowed = settings.allow_plain_http if settings else "ALLOW_PLAIN_HTTP" in given
    if not allowed:
        for provider, named in accounts.items():
            faults += plain_http_faults(provider, named)
    if faults or settings is None:
        raise ConfigurationError(faults)
    return Configuration(settings, accounts, pacing, misspelt_variables(given, _known(account_models)))


def _known(account_models: Mapping[str, type[BaseModel]]) -> set[str]:
    """Return every variable that this service or its command line reads."""
    known = set(file_variables(account_models))
    for prefix, model in _models(account_models):
        known |= {variable_name(prefix, field) for field in model.model_fields}
    return known


def file_variables(account_models: Mapping[str, type[BaseModel]]) -> list[str]:
    """Return every variable that names a file with secrets."""
    own = [name for prefix, model in _models(account_models) for name in secret_file_variables(model, prefix)]
    return [FILE_VARIABLE, *own]


def _models(account_models: Mapping[str, type[BaseModel]]) -> list[tuple[str, type[BaseModel]]]:
    of_providers = [(provider, model) for provider, own in account_models.items() for model in (own, Pacing)]
    return [("", Settings), *of_providers]
