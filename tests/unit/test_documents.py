"""The documents tell the truth: what they list is there, and what they show runs."""

import io
import re

import honcho.environ
import pytest
from dotenv import dotenv_values
from pydantic import BaseModel

from config.settings import Pacing, Settings
from sandbox.environment import ROOT
from tasks.providers import PROVIDERS


def fields_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    return {f"{prefix}{name}".upper() for name in model.model_fields}


def test_the_example_environment_names_every_setting_and_no_other() -> None:
    text = (ROOT / ".env.example").read_text()
    named = re.findall(r"^([A-Z][A-Z0-9_]*)=", text, re.MULTILINE)
    known = fields_of(Settings) | {"PROVIDER_ACCOUNTS_FILE"}
    for name, provider in PROVIDERS.items():
        known |= fields_of(provider.account, f"{name}_") | fields_of(Pacing, f"{name}_")
    assert sorted(named) == sorted(known)


@pytest.mark.parametrize("model", [Settings, *(provider.account for provider in PROVIDERS.values())])
def test_the_example_environment_shows_the_defaults(model: type[BaseModel], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {name: value for name, value in dotenv_values(ROOT / ".env.example").items() if value}
    prefix = next((f"{name}_" for name, provider in PROVIDERS.items() if provider.account is model), "")
    for name in fields_of(model):
        monkeypatch.delenv(f"{prefix}{name}".upper(), raising=False)
    given = {
        name: shown[f"{prefix}{name}".upper()]
        for name, info in model.model_fields.items()
        if f"{prefix}{name}".upper() in shown and not info.is_required()
    }
    mandatory = {name: "x" for name, info in model.model_fields.items() if info.is_required()}
    assert model.model_validate({**mandatory, **given}) == model.model_validate(mandatory)


def test_honcho_reads_the_example_environment_as_workers_do() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert honcho.environ.parse(text) == {
        name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value
    }


def test_every_setting_says_how_to_set_it() -> None:
    models: list[type[BaseModel]] = [Settings, Pacing, *(provider.account for provider in PROVIDERS.values())]
    silent = [name for model in models for name, info in model.model_fields.items() if not info.description]
    assert silent == []


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), ROOT / "simulator/README.md"]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target
    ]
    assert len(pages) > 10
    assert [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()] == []
