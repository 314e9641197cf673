"""An error that the command line did not foresee is one line, with its place and without its text."""

import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("command", ["--help", "completion"])
def test_an_output_that_cannot_be_written_is_named_in_one_line(command: str) -> None:
    arguments = [sys.executable, "-m", "cardtoken", command, *(["bash"] if command == "completion" else [])]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == "cardtoken: a file or the output cannot be read or written: No space left on device\n"
