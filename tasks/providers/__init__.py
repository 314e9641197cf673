"""The providers. A new one is a module beside these and a line in ``PROVIDERS``."""

from collections.abc import Mapping
from typing import Any

from tasks.providers import afterpay, opay
from tasks.providers.provider import Provider

_ALL: tuple[Provider[Any], ...] = (
    opay.PROVIDER,
    afterpay.PROVIDER,
)

PROVIDERS: Mapping[str, Provider[Any]] = {provider.name: provider for provider in _ALL}
