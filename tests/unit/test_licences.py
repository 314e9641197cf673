"""Licences of dependencies: what metadata says is read, and what is not allowed, or not clear, is refused by name."""

import pytest

from tools.licences import LicenceError, Licences
from tools.locked import LockedPackage, Metadata

RULES = {
    "allowed": ["MIT", "Apache-2.0"],
    "exceptions": [{"licence": "LGPL-2.1-only", "packages": ["data"], "reason": "…"}],
    "stated": {"vague": "MIT", "elsewhere": "Apache-2.0"},
}
OSI = "License :: OSI Approved ::"
MIT, APACHE = f"{OSI} MIT License", f"{OSI} Apache Software License"
GPL = f"{OSI} GNU General Public License v3 (GPLv3)"


def expression(text: str) -> Metadata:
    return Metadata("1", licence_expression=text)


def older(field: str | None, *classifiers: str) -> Metadata:
    """Metadata from before there were expressions."""
    return Metadata("1", licence_field=field, licence_classifiers=classifiers)


def licence(metadata: Metadata | None, name: str = "planted") -> str:
    return Licences(RULES).of(LockedPackage(name, "1", ()), metadata).expression


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (expression("MIT"), "MIT"),
        (expression("GPL-3.0-only OR MIT"), "GPL-3.0-only OR MIT"),
        (expression("MIT AND Apache-2.0"), "MIT AND Apache-2.0"),
        (older("MIT"), "MIT"),
        (older("Apache 2.0", APACHE), "Apache-2.0"),
        (older("MIT OR Apache-2.0", APACHE, MIT), "MIT OR Apache-2.0"),
        (older(None, MIT), "MIT"),
        (older("MIT License\n\nCopyright …", MIT), "MIT"),
    ],
)
def test_an_allowed_licence_is_read(metadata: Metadata, found: str) -> None:
    assert licence(metadata) == found


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (expression("GPL-3.0-only"), "GPL-3.0-only, which licences.toml does not allow"),
        (expression("MIT AND GPL-3.0-only"), "MIT AND GPL-3.0-only, which"),
        (expression("(MIT OR ISC) AND AGPL-3.0-or-later"), "AGPL-3.0-or-later, which"),
        (expression("GPL-2.0-only WITH Classpath-exception-2.0"), "WITH Classpath-exception-2.0, which"),
        (expression("LGPL-2.1-only"), "LGPL-2.1-only, which"),
        (expression("LicenseRef-Proprietary"), "it says 'LicenseRef-Proprietary'"),
        (older(None), "it says nothing"),
        (older("UNKNOWN"), "it says 'UNKNOWN'"),
        (older("BSD", f"{OSI} BSD License"), "it says 'BSD'"),
        (older("MIT", GPL), "GPLv3"),
        (older("MIT", APACHE), "no clear licence"),
        (older(None, GPL), "GPLv3"),
        (older("see LICENSE"), "it says 'see LICENSE'"),
        (None, "it is not installed here"),
    ],
)
def test_a_licence_that_is_not_allowed_or_not_clear_is_refused_by_name(metadata: Metadata | None, said: str) -> None:
    with pytest.raises(LicenceError, match="planted") as refused:
        licence(metadata)
    assert said in str(refused.value)


def test_what_is_stated_counts_where_the_metadata_is_not_clear() -> None:
    assert licence(older("BSD"), "vague") == "MIT"
    assert licence(None, "elsewhere") == "Apache-2.0"


def test_what_is_stated_may_not_contradict_the_metadata() -> None:
    with pytest.raises(LicenceError, match=r"vague says GPL-3.0-only, and licences.toml says MIT"):
        licence(expression("GPL-3.0-only"), "vague")


def test_a_licence_that_is_allowed_for_one_package_is_not_for_another() -> None:
    assert licence(expression("LGPL-2.1-only"), "data") == "LGPL-2.1-only"
