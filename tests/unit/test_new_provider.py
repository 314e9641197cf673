"""The names that ``make provider`` refuses; tests/contract/test_third_provider.py has what it writes."""

import pytest

from sandbox.environment import ROOT
from tools.provider import ScaffoldError, check_name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "the name is missing, as in: make provider NAME=acme"),
        ("opay", "the provider opay exists already"),
        ("fields", "tasks/providers/fields.py exists already; choose another name, such as fields_pay"),
        ("stats", "simulator/stats.py exists already"),
        ("envelope", "tests/unit/test_envelope.py exists already"),
        ("Globex Pay", "'Globex Pay' cannot be a provider's name"),
        ("glo__bex", "'glo__bex' cannot be a provider's name"),
        ("_globex", "cannot be a provider's name"),
        ("7globex", "cannot be a provider's name"),
        ("globéx", "cannot be a provider's name"),
        ("globex\n", "cannot be a provider's name"),
        ("x" * 17, "at most 16 lowercase letters"),
        ("../globex", "cannot be a provider's name"),
        ("class", "class means something else already; choose another name, such as class_pay"),
        ("lookup", "means something else already"),
        ("card", "means something else already"),
        ("redis", "redis's variables could not be told from REDIS_"),
        ("opay_two", "opay_two's variables could not be told from those of opay"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(ScaffoldError) as refused:
        check_name(name, ROOT)
    assert why in str(refused.value)


@pytest.mark.parametrize("name", ["globex", "globex_pay", "g2", "x" * 16])
def test_another_name_is_taken(name: str) -> None:
    check_name(name, ROOT)
