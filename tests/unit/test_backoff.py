"""The pause between attempts."""

import re
from itertools import islice

import pytest

from cardtoken.backoff import Backoff
from sandbox.environment import ROOT


def test_a_pause_doubles_up_to_the_longest_and_stays_there() -> None:
    assert list(islice(Backoff(0.1, 0.5).pauses(), 5)) == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_a_pause_without_end_stays_finite() -> None:
    assert next(islice(Backoff(0.1, 1.0).pauses(), 100_000, None)) == 1.0


def test_a_jitter_takes_off_up_to_its_share_and_differs() -> None:
    firsts = [next(Backoff(2.0, 4.0, jitter=0.5).pauses()) for _ in range(200)]
    assert all(1.0 <= pause <= 2.0 for pause in firsts)
    assert len(set(firsts)) > 100


def test_a_jitter_does_not_shrink_what_follows() -> None:
    assert all(2.0 <= next(islice(Backoff(1.0, 4.0, jitter=0.5).pauses(), 2, None)) <= 4.0 for _ in range(50))


def test_each_call_starts_anew() -> None:
    backoff = Backoff(0.1, 1.0)
    assert list(islice(backoff.pauses(), 3)) == list(islice(backoff.pauses(), 3))


@pytest.mark.parametrize(
    "wrong",
    [(0.0, 1.0, 0.0), (2.0, 1.0, 0.0), (-1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, -0.1)],
)
def test_pauses_that_do_not_grow_are_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="first <= longest"):
        Backoff(*wrong)


def test_no_other_module_doubles_a_pause() -> None:
    doubled = re.compile(r"pause \* 2|2 \* pause|_pause \*= 2")
    sources = [path for room in ("cardtoken", "config", "tasks", "sandbox") for path in (ROOT / room).rglob("*.py")]
    found = [path.name for path in sources if doubled.search(path.read_text(encoding="utf-8"))]
    assert found == ["backoff.py"]
