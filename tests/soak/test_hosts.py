"""Several hosts, in the short form of the runs about them."""

import pytest

from soak.__main__ import RUNS
from soak.record import Plan
from soak.stock import UnavailableError

pytestmark = pytest.mark.tools


@pytest.mark.parametrize(("name", "scale"), [("failover", 0.2), ("cut-off", 0.1)])
def test_hosts_come_and_go(name: str, scale: float) -> None:
    try:
        record = RUNS[name](Plan(scale=scale, seed=1, progress=lambda *_: None))
    except UnavailableError as error:  # whoever is not root has no network namespaces
        pytest.skip(str(error))
    assert record.passed, f"{record.goal}: {dict(record.figures)}"
