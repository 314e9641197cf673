"""An environment that holds what a test puts into it and nothing of the machine that runs it."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from config.errors import ConfigurationError, Fault
from config.settings import Configuration
from config.source import Source
from tasks.providers import PROVIDERS

MODELS: Mapping[str, type[BaseModel]] = {name: provider.account for name, provider in PROVIDERS.items()}
OPAY = {"OPAY_MERCHANT_ID": "256612345678901", "OPAY_PRIVATE_KEY": "OPAYPRV-canary"}
AFTERPAY = {"AFTERPAY_CLIENT_ID": "afterpay", "AFTERPAY_CLIENT_SECRET": "merchant-canary"}
#: In every secret of these tests, so in no text that is shown.
CANARY = "canary"


class Environment:
    """Loads the configuration from given variables alone, in an empty folder of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        for name in os.environ:
            if not name.startswith("PYTEST"):
                monkeypatch.delenv(name)
        monkeypatch.chdir(folder)

    def file(self, name: str, content: str | bytes) -> str:
        """The path of a new file."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def load(self, **variables: str) -> Configuration:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)
        return Source(MODELS).load()

    def refused(self, **variables: str) -> ConfigurationError:
        """The error that these variables lead to; no secret among them may be in its text."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(**variables)
        shown = f"{caught.value} {caught.value!r}"
        assert CANARY not in shown
        return caught.value

    def fault(self, **variables: str) -> Fault:
        """The one fault of these variables."""
        [fault] = self.refused(**variables).faults
        return fault
