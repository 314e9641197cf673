"""The fakes have the methods of what they stand for."""

import inspect

import pytest

from tasks.broker.claims import Claims
from tasks.stores.circuits import Circuits
from tasks.stores.permits import RateLimits
from tasks.stores.quarantine import Quarantine
from tasks.stores.results import ResultStore
from tasks.testing.admission import MemoryCircuits, MemoryRateLimiter
from tasks.testing.broker import MemoryClaims, MemoryQuarantine
from tasks.testing.results import MemoryResults


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (MemoryCircuits, Circuits),
        (MemoryRateLimiter, RateLimits),
        (MemoryClaims, Claims),
        (MemoryQuarantine, Quarantine),
        (MemoryResults, ResultStore),
    ],
)
def test_a_fake_has_the_signatures_of_what_it_stands_for(fake: type, real: type) -> None:
    methods = {name: each for name, each in vars(fake).items() if inspect.isfunction(each) and not name.startswith("_")}
    assert methods
    for name, method in methods.items():
        assert inspect.signature(method) == inspect.signature(getattr(real, name)), name
