"""The environment, typed and checked once: defaults, bounds, and words that name the variable and the way out."""

from pathlib import Path
from typing import Any

import pytest

from cardtoken.contract import Lane
from config.settings import Settings
from tests.unit.configuring import AFTERPAY, OPAY, Environment


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    return Environment(tmp_path, monkeypatch)


DEFAULTS = [
    ("environment", "development"),
    ("allow_plain_http", False),
    ("redis_sentinel_master", None),
    ("redis_sentinel_password", None),
    ("redis_ca_file", None),
    ("http_connect_timeout", 3),
    ("http_read_timeout", 10),
    ("http_idle_timeout", 20),
    ("http_total_timeout", 15),
    ("http_max_body_bytes", 1_048_576),
    ("provider_concurrency", 64),
    ("retry_base_delay", 0.5),
    ("retry_max_delay", 60),
    ("retry_max_attempts", 5),
    ("retry_bulk_max_attempts", None),
    ("interactive_deadline", 30),
    ("bulk_deadline", 3600),
    ("interactive_share", 0.2),
    ("max_message_bytes", 4_194_304),
    ("priority_separators", ("\x06\x16", ":")),
    ("priority_steps", tuple(range(10))),
    ("result_queues", frozenset()),
    ("result_retention", 86_400),
    ("result_stream_maxlen", 1_000_000),
    ("dead_letter_retention", 2_592_000),
    ("dead_letter_maxlen", 100_000),
]


@pytest.mark.parametrize(("name", "value"), DEFAULTS)
def test_a_setting_that_is_not_set_has_the_documented_default(
    environment: Environment, name: str, value: object
) -> None:
    assert getattr(environment.load().settings, name) == value


def test_with_nothing_set_there_is_a_redis_on_this_machine_and_no_provider(environment: Environment) -> None:
    configuration = environment.load()
    assert configuration.settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert configuration.accounts == {}


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("RETRY_BASE_DELAY", "0.001", 0.001),
        ("RETRY_MAX_DELAY", "86400", 86_400),
        ("RETRY_MAX_ATTEMPTS", "1", 1),
        ("PROVIDER_CONCURRENCY", "1024", 1024),
        ("HTTP_MAX_BODY_BYTES", "1024", 1024),
        ("ALLOW_PLAIN_HTTP", "true", True),
        ("ALLOW_PLAIN_HTTP", "0", False),
        ("HTTP_USE_ENV_PROXIES", "1", True),
        ("ENVIRONMENT", "production", "production"),
        ("INTERACTIVE_SHARE", "0", 0),
        ("RESULT_QUEUES", "checkout", {"checkout"}),
        ("RESULT_QUEUES", " checkout, autopay ,,", {"checkout", "autopay"}),  # blanks and commas too many
        ("RESULT_QUEUES", "", frozenset()),  # empty counts as not set
        ("RETRY_MAX_ATTEMPTS", "", 5),
        ("retry_max_attempts", "7", 7),  # small letters
    ],
)
def test_a_value_within_its_bounds_is_taken(environment: Environment, variable: str, text: str, value: object) -> None:
    settings = environment.load(**{variable: text}).settings
    assert getattr(settings, variable.lower()) == value


@pytest.mark.parametrize(
    ("given", "interactive", "bulk"),
    [
        ({}, 5, 154),  # bulk: until the deadline
        ({"RETRY_MAX_ATTEMPTS": ""}, 5, 154),
        ({"BULK_DEADLINE": "60"}, 5, 13),
        ({"RETRY_MAX_ATTEMPTS": "5"}, 5, 5),  # who says it means it
        ({"RETRY_MAX_ATTEMPTS": "3"}, 3, 3),
        ({"RETRY_BULK_MAX_ATTEMPTS": "20"}, 5, 20),
        ({"RETRY_MAX_ATTEMPTS": "3", "RETRY_BULK_MAX_ATTEMPTS": "20"}, 3, 20),
    ],
)
def test_a_limit_of_calls_holds_for_both_lanes_and_the_default_for_interactive_lookups(
    environment: Environment, given: dict[str, str], interactive: int, bulk: int
) -> None:
    settings = environment.load(**given).settings
    assert [settings.max_attempts(lane) for lane in (Lane.INTERACTIVE, Lane.BULK)] == [interactive, bulk]


def test_a_limit_in_the_env_file_holds_for_both_lanes_too(environment: Environment) -> None:
    environment.file(".env", "RETRY_MAX_ATTEMPTS=4\n")
    settings = environment.load().settings
    assert {settings.max_attempts(lane) for lane in Lane} == {4}


def test_each_provider_has_a_pace_of_its_own(environment: Environment) -> None:
    given = {"OPAY_RATE_LIMIT": "30/m", "AFTERPAY_RATE_LIMIT": "100/s", "AFTERPAY_NOT_FOUND_GRACE": "2.5"}
    configuration = environment.load(**OPAY, **AFTERPAY, **given)
    accounts: Any = configuration.accounts
    assert [accounts[provider]["default"].rate_limit for provider in ("opay", "afterpay")] == [0.5, 100]
    assert [configuration.pacing[provider].not_found_grace for provider in ("opay", "afterpay")] == [0, 2.5]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RETRY_BASE_DELAY", "soon"),
        ("RETRY_BASE_DELAY", "0"),
        ("RETRY_BASE_DELAY", "-1"),
        ("RETRY_BASE_DELAY", "nan"),
        ("RETRY_BASE_DELAY", "inf"),
        ("RETRY_MAX_DELAY", "0.4"),  # below RETRY_BASE_DELAY
        ("RETRY_MAX_DELAY", "86401"),
        ("RETRY_MAX_ATTEMPTS", "0"),
        ("RETRY_MAX_ATTEMPTS", "1.5"),
        ("RETRY_MAX_ATTEMPTS", "101"),
        ("PROVIDER_CONCURRENCY", "0"),
        ("PROVIDER_CONCURRENCY", "many"),
        ("HTTP_CONNECT_TIMEOUT", "0"),
        ("HTTP_READ_TIMEOUT", "x"),
        ("HTTP_TOTAL_TIMEOUT", "-3"),
        ("HTTP_MAX_BODY_BYTES", "1023"),
        ("INTERACTIVE_DEADLINE", "0"),
        ("BULK_DEADLINE", "1h"),
        ("OPAY_RATE_LIMIT", "100"),
        ("OPAY_RATE_LIMIT", "0/s"),
        ("OPAY_RATE_LIMIT", "many/s"),
        ("AFTERPAY_RATE_LIMIT", "5/h"),
        ("INTERACTIVE_SHARE", "1"),
        ("INTERACTIVE_SHARE", "-0.1"),
        ("AFTERPAY_NOT_FOUND_GRACE", "-1"),
        ("MAX_MESSAGE_BYTES", "4 MB"),
        ("LOG_FORMAT", "xml"),
        ("SENTRY_TRACES_SAMPLE_RATE", "2"),
        ("SENTRY_DSN", "https://sentry.io/1"),
        ("METRICS_HOST", "everywhere"),
        ("METRICS_PORT", "70000"),
        ("HEALTH_HOST", "everywhere"),
        ("HEALTH_PORT", "70000"),
        ("RESULT_RETENTION", "0"),
        ("RESULT_STREAM_MAXLEN", "-1"),
        ("DEAD_LETTER_RETENTION", "forever"),
        ("DEAD_LETTER_MAXLEN", "0"),
        ("RESULT_QUEUES", "checkout,two words"),
        ("RESULT_QUEUES", "a:b"),
        ("PRIORITY_SEPARATORS", ":"),
        ("PRIORITY_SEPARATORS", '[""]'),
        ("PRIORITY_STEPS", "0-x"),
        ("PRIORITY_STEPS", "256"),
        ("PRIORITY_STEPS", "0-99"),
        ("RESULT_QUEUES", "x" * 65),
        ("ENVIRONMENT", "x" * 65),
        ("ALLOW_PLAIN_HTTP", "perhaps"),
        ("REDIS_URL", "http://user:canary@localhost"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("REDIS_CA_FILE", "/nowhere/ca.pem"),
        ("HTTP_CA_FILE", "/"),  # a folder
    ],
)
def test_a_bad_value_is_named_with_the_way_out(environment: Environment, variable: str, value: str) -> None:
    fault = environment.fault(**{variable: value})
    assert fault.variable == variable
    assert fault.problem
    assert fault.fix


def test_metrics_and_probes_need_two_ports(environment: Environment) -> None:
    assert environment.fault(METRICS_PORT="9808", HEALTH_PORT="9808").variable == "HEALTH_PORT"


def test_all_that_is_wrong_is_told_at_once_and_no_secret_is(environment: Environment) -> None:
    error = environment.refused(
        REDIS_URL="http://user:canary@localhost",
        RETRY_MAX_ATTEMPTS="0",
        BULK_DEADLINE="canary",
        ALLOW_PLAIN_HTTP="perhaps",
        OPAY_PRIVATE_KEY="OPAYPRV-canary",
        OPAY_CODE_OVERRIDES='{"09": "canary"}',
        AFTERPAY_CLIENT_ID="afterpay",
        AFTERPAY_CLIENT_SECRET_FILE=str(environment.folder / "missing"),
        AFTERPAY_CHANNEL="canary",
        PROVIDER_ACCOUNTS_FILE=environment.file("accounts.json", "canary"),
    )
    named = {fault.variable for fault in error.faults}
    assert named == {
        "REDIS_URL",
        "RETRY_MAX_ATTEMPTS",
        "BULK_DEADLINE",
        "ALLOW_PLAIN_HTTP",
        "OPAY_MERCHANT_ID",  # which is missing
        "OPAY_CODE_OVERRIDES",
        "AFTERPAY_CLIENT_SECRET_FILE",
        "AFTERPAY_CHANNEL",
        "PROVIDER_ACCOUNTS_FILE",
    }
    assert all(f"  {name}: " in str(error) for name in named)
    assert str(error).startswith(f"The configuration is wrong in {len(error.faults)} places:\n")


def test_one_fault_is_one_place(environment: Environment) -> None:
    assert str(environment.refused(RETRY_MAX_ATTEMPTS="0")).startswith("The configuration is wrong in 1 place:\n")


def test_every_setting_says_what_to_put_there() -> None:
    assert all(info.description for info in Settings.model_fields.values())


def test_settings_do_not_show_their_secrets(environment: Environment) -> None:
    settings = environment.load(
        REDIS_URL="rediss://user:canary@redis.example.com/0", REDIS_SENTINEL_PASSWORD="canary"
    ).settings
    assert "canary" not in f"{settings} {settings!r} {settings.model_dump_json()}"


def test_variables_of_other_programs_are_ignored(environment: Environment) -> None:
    environment.load(REDIS_URL_OLD="canary", SOMETHING="else", OPAY_UNHEARD_OF="canary")


# --- Redis


@pytest.mark.parametrize("url", ["redis://h:6379/0", "rediss://u:p@h/1", "sentinel://h:26379/0"])
def test_redis_is_reached_by_one_of_three_schemes(environment: Environment, url: str) -> None:
    settings = environment.load(REDIS_URL=url, REDIS_SENTINEL_MASTER="mymaster").settings
    assert settings.redis_url.get_secret_value() == url


def test_sentinel_needs_the_name_of_its_primary(environment: Environment) -> None:
    fault = environment.fault(REDIS_URL="sentinel://:canary@h:26379;sentinel://i:26379/0")
    assert fault.variable == "REDIS_URL"
    assert "REDIS_SENTINEL_MASTER" in fault.problem


# --- secrets in files


SECRETS = ["REDIS_URL", "REDIS_SENTINEL_PASSWORD", "OPAY_PRIVATE_KEY", "AFTERPAY_CLIENT_SECRET"]


def secret_of(environment: Environment, name: str, **variables: str) -> str:
    """What a secret becomes; the rest of both accounts is given."""
    rest = {other: value for other, value in {**OPAY, **AFTERPAY}.items() if other != name}
    configuration = environment.load(**{**rest, **variables})
    holders: list[Any] = [
        configuration.settings,
        configuration.accounts["opay"]["default"],
        configuration.accounts["afterpay"]["default"],
    ]
    field = name.lower().removeprefix("opay_").removeprefix("afterpay_")
    [value] = [getattr(holder, field) for holder in holders if hasattr(holder, field)]
    return str(value.get_secret_value())


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("redis://canary", "redis://canary"),  # no newline
        ("redis://canary\n", "redis://canary"),  # the one that editors add belongs to the file
        ("redis://canary\r\n", "redis://canary"),
        ("redis://canary\n\n", "redis://canary\n"),  # a second one does not
        ("redis://canary ", "redis://canary "),  # nor does a blank
        ("redis://ünïcödé", "redis://ünïcödé"),
    ],
)
def test_a_secret_can_be_in_a_file(environment: Environment, name: str, content: str, value: str) -> None:
    path = environment.file("secret", content)
    assert secret_of(environment, name, **{f"{name}_FILE": path}) == value


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_that_gives_no_secret_is_a_fault(environment: Environment, name: str) -> None:
    rest = {other: value for other, value in {**OPAY, **AFTERPAY}.items() if other != name}
    files = {
        str(environment.folder / "missing"): "cannot be read: No such file or directory",
        str(environment.folder): "cannot be read: Is a directory",
        environment.file("empty", ""): "names an empty file",
        environment.file("newline", "\n"): "names an empty file",
        environment.file("binary", b"canary \xff"): "cannot be read: it is not UTF-8 text",
    }
    for path, problem in files.items():
        fault = environment.fault(**rest, **{f"{name}_FILE": path})
        assert (fault.variable, fault.problem) == (f"{name}_FILE", problem)
        assert fault.fix


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_given_twice_is_a_fault(environment: Environment, name: str) -> None:
    path = environment.file("secret", "redis://canary")
    fault = environment.fault(**{**OPAY, **AFTERPAY, name: "redis://canary", f"{name}_FILE": path})
    assert (fault.variable, fault.problem) == (f"{name}_FILE", f"is set, and {name} too")


def test_a_setting_that_is_not_a_secret_is_not_read_from_a_file(environment: Environment) -> None:
    path = environment.file("number", "7")
    assert environment.load(RETRY_MAX_ATTEMPTS_FILE=path).settings.retry_max_attempts == 5


# --- .env


def test_dot_env_is_read_and_the_process_environment_wins(environment: Environment) -> None:
    environment.file(".env", "RETRY_MAX_ATTEMPTS=2\nPROVIDER_CONCURRENCY=3\nOPAY_MERCHANT_ID=1\nOPAY_PRIVATE_KEY=a\n")
    configuration = environment.load(RETRY_MAX_ATTEMPTS="4", OPAY_PRIVATE_KEY="b")
    settings = configuration.settings
    account: Any = configuration.accounts["opay"]["default"]
    assert (settings.retry_max_attempts, settings.provider_concurrency) == (4, 3)
    assert (account.merchant_id, account.private_key.get_secret_value()) == ("1", "b")


def test_an_empty_variable_hides_nothing_in_dot_env(environment: Environment) -> None:
    lines = ["RETRY_MAX_ATTEMPTS=2", "REDIS_URL=redis://dotenv", *(f"{name}={value}" for name, value in OPAY.items())]
    environment.file(".env", "\n".join(lines))
    configuration = environment.load(RETRY_MAX_ATTEMPTS="", REDIS_URL="", OPAY_MERCHANT_ID="", OPAY_PRIVATE_KEY="")
    assert configuration.settings.retry_max_attempts == 2
    assert configuration.settings.redis_url.get_secret_value() == "redis://dotenv"
    assert "opay" in configuration.accounts


def test_a_wrong_value_in_dot_env_is_a_fault_too(environment: Environment) -> None:
    environment.file(".env", "RETRY_MAX_ATTEMPTS=never\nOTHERS=canary\n")
    assert environment.fault().variable == "RETRY_MAX_ATTEMPTS"


def test_a_database_that_producers_would_not_see_is_refused_with_the_right_form(environment: Environment) -> None:
    fault = environment.fault(REDIS_URL="sentinel://:canary@a;sentinel://:canary@b/2", REDIS_SENTINEL_MASTER="mymaster")
    assert fault.variable == "REDIS_URL"
    assert "sentinel://HOST:26379/2;sentinel://HOST:26379/2" in fault.problem


@pytest.mark.parametrize("in_file", [True, False])
def test_a_variable_that_is_nearly_one_of_ours_is_named_with_that_one(environment: Environment, in_file: bool) -> None:
    given = {
        "RETRY_MAX_ATTEMPT": "3",
        "REDIS_ULR": "redis://canary",
        "AFTERPAY_CLIENTSECRET": "canary",
        "OPAY_PRIVATE_KEYS_FILE": "canary",
        # Other programs' own.
        "REDIS_HOST": "x",
        "REDIS_PORT": "1",
        "HTTP_PROXY": "x",
        "SENTRY_RELEASE": "x",
        "FLOWER_BASIC_AUTH": "x",
    }
    if in_file:
        environment.file(".env", "".join(f"{name}={value}\n" for name, value in given.items()))
    misspelt = environment.load(**({} if in_file else given)).misspelt
    assert dict(misspelt) == {
        "RETRY_MAX_ATTEMPT": "RETRY_MAX_ATTEMPTS",
        "REDIS_ULR": "REDIS_URL",
        "AFTERPAY_CLIENTSECRET": "AFTERPAY_CLIENT_SECRET",
        "OPAY_PRIVATE_KEYS_FILE": "OPAY_PRIVATE_KEY_FILE",
    }
