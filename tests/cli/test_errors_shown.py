"""An error that the command line did not foresee is one line, with its place and without its text."""

import re

import pytest

from cardtoken import cli


def test_an_unexpected_error_is_named_by_its_type_and_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("OPAY_TOKEN_canary")

    monkeypatch.setattr(cli.cardtoken, "main", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert re.fullmatch(r"cardtoken: an unexpected error .*: KeyError at cardtoken/cli/__init__\.py:\d+\n", said)
