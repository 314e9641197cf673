"""The containers that ``make containers`` has started."""

import os
from pathlib import Path

import pytest

from tests.containers.started import Containers


@pytest.fixture(scope="session")
def containers() -> Containers:
    folder = os.environ.get("CARDTOKEN_CONTAINERS")
    if not folder:
        pytest.fail("these tests need the started containers: `make containers`")
    return Containers(Path(folder))
