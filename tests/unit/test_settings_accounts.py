"""Provider accounts: one from the environment, more from a file, and none that sends its credentials astray."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.configuring import AFTERPAY, OPAY, Environment

EMEA = {"merchant_id": "2", "private_key": "OPAYPRV-canary-2"}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    return Environment(tmp_path, monkeypatch)


def accounts_file(environment: Environment, content: object) -> dict[str, str]:
    """The variable that names a file with this content."""
    return {"PROVIDER_ACCOUNTS_FILE": environment.file("accounts.json", json.dumps(content))}


def account(environment: Environment, provider: str, name: str = "default", **variables: str) -> Any:
    return environment.load(**variables).accounts[provider][name]


# --- from the environment


def test_the_least_that_makes_an_account(environment: Environment) -> None:
    accounts = environment.load(**OPAY, **AFTERPAY).accounts
    assert {provider: list(named) for provider, named in accounts.items()} == {
        "opay": ["default"],
        "afterpay": ["default"],
    }
    opay: Any = accounts["opay"]["default"]
    assert (opay.merchant_id, opay.private_key.get_secret_value()) == ("256612345678901", "OPAYPRV-canary")
    assert opay.base_url == "https://sandbox-cashierapi.opaycheckout.com"
    afterpay: Any = accounts["afterpay"]["default"]
    assert (afterpay.client_id, afterpay.client_secret.get_secret_value()) == ("afterpay", "merchant-canary")
    assert afterpay.base_url == "https://api-uat.payments.paynow.afterpaytouch.dev"


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [
        ("AFTERPAY_BASE_URL", "base_url", "https://api.example.com"),
        ("AFTERPAY_AUTH_URL", "auth_url", "https://login.example.com/token"),
        ("AFTERPAY_MERCHANT", "merchant", "SED"),
        ("AFTERPAY_MERCHANT_ID", "merchant_id", "ABC123"),
        ("AFTERPAY_PLATFORM", "platform", "Merchant-SP"),
        ("AFTERPAY_CHANNEL", "channel", "app"),
        ("AFTERPAY_COUNTRY_CODE", "country_code", "NZ"),
        ("AFTERPAY_SERVICE", "service", "Unlock"),
    ],
)
def test_every_part_of_an_account_has_its_variable(
    environment: Environment, variable: str, field: str, value: str
) -> None:
    assert getattr(account(environment, "afterpay", **AFTERPAY, **{variable: value}), field) == value


def test_overrides_are_json_in_a_variable(environment: Environment) -> None:
    overrides = account(environment, "opay", **OPAY, OPAY_CODE_OVERRIDES='{"50003": "rejected"}').code_overrides
    assert overrides == {"50003": "rejected"}


@pytest.mark.parametrize("variables", [{}, {"OPAY_BASE_URL": "https://x.example.com"}, {"OPAY_MERCHANT_ID": ""}])
def test_a_provider_without_credentials_is_off(environment: Environment, variables: dict[str, str]) -> None:
    assert list(environment.load(**AFTERPAY, **variables).accounts) == ["afterpay"]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("OPAY_MERCHANT_ID", "OPAY_PRIVATE_KEY"),
        ("OPAY_PRIVATE_KEY", "OPAY_MERCHANT_ID"),
        ("AFTERPAY_CLIENT_ID", "AFTERPAY_CLIENT_SECRET"),
        ("AFTERPAY_CLIENT_SECRET", "AFTERPAY_CLIENT_ID"),
    ],
)
def test_half_an_account_is_a_fault_that_names_the_other_half(
    environment: Environment, given: str, missing: str
) -> None:
    fault = environment.fault(**{given: {**OPAY, **AFTERPAY}[given]})
    assert (fault.variable, fault.problem) == (missing, f"is missing, while {given} is set")
    assert fault.fix


def test_half_an_account_is_told_even_if_the_given_half_cannot_be_read(environment: Environment) -> None:
    error = environment.refused(OPAY_PRIVATE_KEY_FILE=str(environment.folder / "missing"))
    assert {fault.variable for fault in error.faults} == {"OPAY_PRIVATE_KEY_FILE", "OPAY_MERCHANT_ID"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPAY_MERCHANT_ID", "2566\r\nX-Evil: 1"),
        ("OPAY_PRIVATE_KEY", "OPAYPRV-canary-\udcff"),  # a byte that is not UTF-8
        ("OPAY_BASE_URL", "opay.example.com"),
        ("OPAY_CODE_OVERRIDES", "{canary"),
        ("OPAY_CODE_OVERRIDES", '{"09": "canary"}'),
        ("AFTERPAY_BASE_URL", "https://user:canary@api.example.com"),
        ("AFTERPAY_AUTH_URL", "/oauth2/token"),
        ("AFTERPAY_CHANNEL", "canary"),
        ("AFTERPAY_COUNTRY_CODE", "XX"),
        ("AFTERPAY_MERCHANT", "a;b"),
        ("AFTERPAY_SERVICE", "canary"),
    ],
)
def test_a_bad_value_is_named_with_the_way_out(environment: Environment, variable: str, value: str) -> None:
    faults = environment.refused(**{**OPAY, **AFTERPAY, variable: value}).faults
    assert {fault.variable for fault in faults} == {variable}
    assert all(fault.fix for fault in faults)


# --- from a file


def test_a_file_adds_accounts_beside_the_default_one(environment: Environment) -> None:
    content = {
        "opay": {"emea": EMEA, "a.b_c-1": {**EMEA, "merchant_id": "3"}},
        "afterpay": {"nz": {"client_id": "c", "client_secret": "canary", "country_code": "NZ", "merchant": "SED"}},
    }
    accounts = environment.load(**OPAY, **accounts_file(environment, content)).accounts
    assert {provider: sorted(named) for provider, named in accounts.items()} == {
        "opay": ["a.b_c-1", "default", "emea"],
        "afterpay": ["nz"],
    }
    emea: Any = accounts["opay"]["emea"]
    assert (emea.merchant_id, emea.private_key.get_secret_value()) == ("2", "OPAYPRV-canary-2")
    nz: Any = accounts["afterpay"]["nz"]
    assert (nz.country_code, nz.merchant) == ("NZ", "SED")


def test_the_default_account_can_be_in_the_file_but_not_in_both_places(environment: Environment) -> None:
    variables = accounts_file(environment, {"opay": {"default": EMEA}})
    assert account(environment, "opay", **variables).merchant_id == "2"
    fault = environment.fault(**OPAY, **variables)
    assert fault.variable == "PROVIDER_ACCOUNTS_FILE"
    assert "opay.default" in fault.problem


def test_an_account_of_the_file_takes_optional_values_from_the_environment(environment: Environment) -> None:
    shared = {"OPAY_BASE_URL": "https://eg.example.com", "OPAY_CODE_OVERRIDES": '{"50003": "rejected"}'}
    own = {**EMEA, "code_overrides": {"97": "not_found"}}
    variables = {**shared, **accounts_file(environment, {"opay": {"emea": EMEA, "own": own}})}
    accounts: Any = environment.load(**variables).accounts["opay"]
    assert accounts["emea"].base_url == accounts["own"].base_url == "https://eg.example.com"
    assert accounts["emea"].code_overrides == {"50003": "rejected"}
    assert accounts["own"].code_overrides == {"97": "not_found"}


@pytest.mark.parametrize("missing", ["merchant_id", "private_key"])
def test_credentials_are_never_taken_from_another_account(environment: Environment, missing: str) -> None:
    entry = {name: value for name, value in EMEA.items() if name != missing}
    fault = environment.fault(**OPAY, **accounts_file(environment, {"opay": {"emea": entry}}))
    assert (fault.variable, fault.problem) == ("PROVIDER_ACCOUNTS_FILE (opay.emea)", f"{missing} is missing")


@pytest.mark.parametrize(
    ("own", "base_url", "auth_url"),
    [
        # no URL of its own: both of the environment's
        ({}, "https://shared.example.com", "https://login.example.com"),
        # one of its own: its secret must not go to the environment's other host
        ({"base_url": "https://own.example.com"}, "https://own.example.com", None),
        (
            {"auth_url": "https://own.example.com/token"},
            "https://api-uat.payments.paynow.afterpaytouch.dev",
            "https://own.example.com/token",
        ),
    ],
)
def test_an_account_with_a_url_of_its_own_takes_none_from_the_environment(
    environment: Environment, own: dict[str, str], base_url: str, auth_url: str | None
) -> None:
    entry = {"client_id": "c", "client_secret": "canary", **own}
    shared = {"AFTERPAY_BASE_URL": "https://shared.example.com", "AFTERPAY_AUTH_URL": "https://login.example.com"}
    found = account(environment, "afterpay", "nz", **shared, **accounts_file(environment, {"afterpay": {"nz": entry}}))
    assert (found.base_url, found.auth_url) == (base_url, auth_url)


def test_a_bad_shared_value_is_told_once_and_under_its_own_name(environment: Environment) -> None:
    variables = {**OPAY, "OPAY_BASE_URL": "nowhere", **accounts_file(environment, {"opay": {"a": EMEA, "b": EMEA}})}
    assert environment.fault(**variables).variable == "OPAY_BASE_URL"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65, "emea\n", "ünïcödé", "canary!"])
def test_a_bad_name_is_refused_without_being_quoted(environment: Environment, name: str) -> None:
    fault = environment.fault(**accounts_file(environment, {"opay": {name: EMEA}}))
    assert (fault.variable, fault.problem) == ("PROVIDER_ACCOUNTS_FILE (opay.…)", "has a bad name")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "has the wrong shape"),
        ("canary", "has the wrong shape"),
        ({"opay": [EMEA]}, "has the wrong shape"),
        ({"canary": {"emea": EMEA}}, "names an unknown provider"),
        ({"opay": {"emea": "canary"}}, "is not a JSON object"),
        ({"opay": {"emea": {**EMEA, "merchant": "m"}}}, "merchant: there is no such field; did you mean merchant_id?"),
        ({"opay": {"emea": {**EMEA, "merchant_id": 2}}}, "merchant_id input should be a valid string"),
        ({"opay": {"emea": {**EMEA, "base_url": "canary"}}}, "base_url must be a URL such as https://api.example.com"),
        ({"opay": {"emea": {**EMEA, "private_key": "canary \ud800"}}}, "private_key is not UTF-8 text"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_the_way_out(
    environment: Environment, content: object, problem: str
) -> None:
    fault = environment.fault(**accounts_file(environment, content))
    assert fault.variable.startswith("PROVIDER_ACCOUNTS_FILE")
    assert fault.problem == problem


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"canary", "is not JSON"),
        (b"", "is not JSON"),
        (b'{"opay": "\xff"}', "is not JSON"),
        pytest.param(b"[" * 100_000, "is not JSON", id="nested"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault(environment: Environment, content: bytes, problem: str) -> None:
    fault = environment.fault(PROVIDER_ACCOUNTS_FILE=environment.file("accounts.json", content))
    assert (fault.variable, fault.problem) == ("PROVIDER_ACCOUNTS_FILE", problem)
    missing = environment.fault(PROVIDER_ACCOUNTS_FILE=str(environment.folder / "missing"))
    assert missing.problem == "cannot be read: No such file or directory"


# --- plain HTTP


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com", True),
        ("HTTPS://api.example.com", True),
        ("http://127.0.0.1:8080", True),  # loopback, all of it
        ("http://127.9.9.9", True),
        ("http://[::1]:8080", True),
        ("http://localhost:8080", True),
        ("http://api.example.com", False),
        ("http://10.0.0.1", False),  # a private network is still a network
        ("http://0.0.0.0", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("HTTP://api.example.com", False),
    ],
)
def test_credentials_go_in_the_clear_to_this_machine_alone(environment: Environment, url: str, allowed: bool) -> None:
    variables = {**OPAY, "OPAY_BASE_URL": url}
    if allowed:
        assert account(environment, "opay", **variables).base_url == url
    else:
        fault = environment.fault(**variables)
        assert (fault.variable, fault.problem) == ("OPAY_BASE_URL", "is http:// on a host other than loopback")


def test_every_url_of_every_account_is_looked_at(environment: Environment) -> None:
    plain = {"client_id": "c", "client_secret": "canary", "auth_url": "http://login.example.com"}
    variables = accounts_file(environment, {"afterpay": {"nz": plain}})
    error = environment.refused(**AFTERPAY, AFTERPAY_AUTH_URL="http://login.example.com/token", **variables)
    assert {fault.variable for fault in error.faults} == {
        "AFTERPAY_AUTH_URL",
        "PROVIDER_ACCOUNTS_FILE (afterpay.nz.auth_url)",
    }


def test_plain_http_can_be_allowed_outside_production(environment: Environment) -> None:
    variables = {**OPAY, "OPAY_BASE_URL": "http://simulator:8080", "ALLOW_PLAIN_HTTP": "1"}
    assert account(environment, "opay", **variables).base_url == "http://simulator:8080"
    fault = environment.fault(**variables, ENVIRONMENT="production")
    assert (fault.variable, fault.problem) == ("ALLOW_PLAIN_HTTP", "is refused where ENVIRONMENT is production")


def test_loopback_needs_no_permission_in_production_either(environment: Environment) -> None:
    variables = {**OPAY, "OPAY_BASE_URL": "http://127.0.0.1:8080", "ENVIRONMENT": "production"}
    assert account(environment, "opay", **variables).base_url == "http://127.0.0.1:8080"
