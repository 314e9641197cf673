"""The providers, said once: what client, command line and worker know of them is of one list."""

import re
import tomllib
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

import cardtoken
from cardtoken.cli import cardtoken as command_line
from cardtoken.contract import LookupRequest, Reference
from cardtoken.providers import PROVIDERS, ProviderContract, _by_name, in_words
from sandbox.environment import ROOT
from tasks.providers import PROVIDERS as ADAPTERS
from tasks.providers.opay import OpayAccount
from tasks.providers.opay import build as build_opay
from tasks.providers.opay import parse as parse_opay
from tasks.providers.provider import Provider


def test_every_provider_has_an_adapter_of_its_name_and_request_model() -> None:
    assert list(ADAPTERS) == list(PROVIDERS)
    for name, adapter in ADAPTERS.items():
        assert (adapter.name, adapter.request) == (name, PROVIDERS[name].request)


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_the_package_has_the_request_model_of_every_provider(provider: ProviderContract) -> None:
    assert getattr(cardtoken, provider.request.__name__) is provider.request
    assert f"`lookup.{provider.name}`" in (provider.request.__doc__ or "")
    assert provider.title.strip() == provider.title != ""
    assert provider.reference


def test_a_name_that_is_not_a_request_model_is_not_in_the_package() -> None:
    for name in ("NoSuchRequest", "nothing", "PROVIDERS"):
        with pytest.raises(AttributeError, match=name):
            getattr(cardtoken, name)


def test_a_request_model_adds_exactly_one_field() -> None:
    with pytest.raises(TypeError, match=r"Two adds .*'a', 'b'.* one"):

        class Two(LookupRequest):
            a: Reference
            b: Reference

    with pytest.raises(TypeError, match="Nothing adds no field"):

        class Nothing(LookupRequest):
            account: str = "mine"


def test_two_providers_share_neither_name_nor_reference_field() -> None:
    class OtherRequest(LookupRequest):
        opay_token: Reference

    opay = PROVIDERS["opay"]
    for other in (
        ProviderContract("other", "Other", OtherRequest, "a token"),
        ProviderContract("opay", "OPay", PROVIDERS["afterpay"].request, "a token"),
    ):
        with pytest.raises(ValueError, match="told apart"):
            _by_name([opay, other])


def test_an_adapter_that_producers_do_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'acmes' has no line in cardtoken/providers\.py"):
        Provider(name="acmes", account=OpayAccount, build=build_opay, parse=parse_opay, codes={})


def test_every_provider_has_tests_of_its_own() -> None:
    assert [name for name in PROVIDERS if not (ROOT / f"tests/unit/test_{name}.py").is_file()] == []


def test_no_adapter_may_import_another() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (independence,) = (each for each in contracts if each["type"] == "independence")
    assert independence["modules"] == [f"tasks.providers.{name}" for name in PROVIDERS]


def test_each_line_of_the_guides_checklist_is_held_by_a_test() -> None:
    checklist = (ROOT / "docs/adding-a-provider.md").read_text().partition("## 7.")[2]
    named = re.findall(r"`(test_\w+)` \|$", checklist, re.MULTILINE)
    there = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) == checklist.count("\n| ") - 2 > 8
    assert [name for name in named if name not in there] == []


def test_the_guide_shows_what_the_scaffold_writes() -> None:
    guide = (ROOT / "docs/adding-a-provider.md").read_text()
    for name in ("contract", "adapter", "simulator"):
        template = (ROOT / f"tools/templates/{name}.py.txt").read_text()
        assert f"```python\n{template}```" in guide, name


def test_the_variables_of_an_account_are_those_of_its_model() -> None:
    assert ADAPTERS["opay"].mandatory_variables == ["OPAY_MERCHANT_ID", "OPAY_PRIVATE_KEY"]
    assert ADAPTERS["afterpay"].mandatory_variables == ["AFTERPAY_CLIENT_ID", "AFTERPAY_CLIENT_SECRET"]


@pytest.mark.parametrize(
    "line", ["lookup", "circuit open", "circuit close", "bulk --provider", "dead-letters list --provider"]
)
def test_a_shell_completes_the_names_of_all_providers(line: str) -> None:
    complete = ShellComplete(command_line, {}, "cardtoken", "_CARDTOKEN_COMPLETE")
    assert [each.value for each in complete.get_completions(line.split(), "")] == list(PROVIDERS)
    assert [each.value for each in complete.get_completions(line.split(), "op")] == ["opay"]


@pytest.mark.parametrize("name", ["lookup", "bulk", "dead-letters"])
def test_help_names_every_provider(name: str) -> None:
    context = click.Context(command_line)
    command: Any = command_line.get_command(context, name)
    command = command.commands["list"] if name == "dead-letters" else command
    shown = " ".join(command.get_help(context).split())
    said = {"lookup": "reference", "bulk": "reference_field", "dead-letters": "name"}[name]
    assert all(getattr(provider, said) in shown for provider in PROVIDERS.values())


def test_a_list_is_said_in_words() -> None:
    assert [in_words(each) for each in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]
