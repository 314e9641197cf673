"""Debian's packages in a folder, without installing them."""

import os
from pathlib import Path

import pytest

from tools import debian


@pytest.mark.tools
def test_a_package_is_unpacked_once_and_whole(tmp_path: Path) -> None:
    folder = debian.unpack(("debootstrap",), tmp_path / "programs")
    program = folder / "usr/sbin/debootstrap"
    assert os.access(program, os.X_OK)
    before = program.stat().st_ino
    assert debian.unpack(("debootstrap",), folder) == folder
    assert program.stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["programs"]


@pytest.mark.tools
def test_a_package_that_debian_does_not_have_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(debian.DebianError, match="no-such-package-here"):
        debian.unpack(("no-such-package-here",), tmp_path / "programs")
    assert list(tmp_path.iterdir()) == []


def test_a_root_without_rights_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(debian.DebianError, match="as root or with sudo"):
        debian.root("trixie", (), tmp_path)
