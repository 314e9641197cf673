"""The adapters: for each provider of ``cardtoken.providers`` the module of its name in this package."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from cardtoken.providers import PROVIDERS as KNOWN
from tasks.providers.provider import Provider

PROVIDERS: Mapping[str, Provider[Any]] = {name: import_module(f"{__name__}.{name}").PROVIDER for name in KNOWN}
