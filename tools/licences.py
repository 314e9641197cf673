"""The licence of each locked package, and whether it is allowed.

What is allowed is in requirements/licences.toml.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boolean import boolean
from license_expression import ExpressionError, get_spdx_licensing

from tools.locked import ROOT, LockedPackage, Metadata

RULES = ROOT / "requirements/licences.toml"
#: What packages wrote before metadata had SPDX expressions. "BSD" is not among them: it may be either of two licences.
_WORDS = {
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
#: Classifiers that name no licence.
_NOT_LICENCES = {"License :: DFSG approved", "License :: OSI Approved"}
_SPDX = get_spdx_licensing()


class LicenceError(Exception):
    """A package's licence is unknown or not allowed; the text names the package, its licence and the fix."""


@dataclass(frozen=True)
class Licence:
    """An SPDX expression, and whether the package's metadata says it or this project."""

    expression: str
    by_metadata: bool


class Licences:
    """Which licences are allowed, and what packages say that do not say it precisely."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self.allowed = set(rules["allowed"])
        self._alone = {(package, each["licence"]) for each in rules["exceptions"] for package in each["packages"]}
        self.stated: Mapping[str, str] = rules["stated"]

    @classmethod
    def from_file(cls, path: Path = RULES) -> "Licences":
        """Read the rules."""
        return cls(tomllib.loads(path.read_text(encoding="utf-8")))

    @property
    def named(self) -> set[str]:
        """Each package that the rules name."""
        return {package for package, _ in self._alone} | set(self.stated)

    def of(self, package: LockedPackage, metadata: Metadata | None) -> Licence:
        """Return a package's licence; LicenceError where it is unknown or not allowed."""
        licence = self._of(package.name, metadata)
        if not self._is_allowed(package.name, _parsed(licence.expression)):
            raise LicenceError(
                f"{package.name} {package.version} is under {licence.expression}, which {RULES.name} does not allow: "
                "do without the package, or allow it there with the reason"
            )
        return licence

    def _of(self, name: str, metadata: Metadata | None) -> Licence:
        said = _said(metadata) if metadata else None
        stated = self.stated.get(name)
        if said is not None and stated is not None and _parsed(said) != _parsed(stated):
            raise LicenceError(f"{name} says {said}, and {RULES.name} says {stated}: correct it there")
        expression = _parsed(said or stated or "")
        if expression is None:
            claims = ", ".join(map(repr, _claims(metadata))) if metadata else "nothing, as it is not installed here"
            raise LicenceError(
                f"{name}: its metadata has no clear licence (it says {claims or 'nothing'}): read its licence file, "
                f"and write the SPDX expression under [stated] of {RULES.name}"
            )
        return Licence(expression.render(), by_metadata=said is not None)

    def _is_allowed(self, name: str, parsed: Any) -> bool:
        if isinstance(parsed, boolean.OR):
            return any(self._is_allowed(name, each) for each in parsed.args)
        if isinstance(parsed, boolean.AND):
            return all(self._is_allowed(name, each) for each in parsed.args)
        return str(parsed) in self.allowed or (name, str(parsed)) in self._alone


def _parsed(expression: str) -> Any:
    """Return the expression as a tree; None where it is not SPDX."""
    try:
        return _SPDX.parse(expression, validate=True, strict=True)
    except ExpressionError:
        return None


def _claims(metadata: Metadata) -> list[str]:
    fields = [each.strip().splitlines()[0] for each in (metadata.licence_expression, metadata.licence_field) if each]
    return [*fields, *metadata.licence_classifiers]


def _said(metadata: Metadata) -> str | None:
    """Return what the metadata says where that is one SPDX expression, beyond doubt."""
    if metadata.licence_expression:
        return metadata.licence_expression
    claims = [_WORDS.get(each, each) for each in _claims(metadata) if each not in _NOT_LICENCES]
    parsed = [_parsed(each) for each in claims]
    if not claims or None in parsed:
        return None
    # A field that combines what the classifiers name one by one.
    return claims[0] if all(each.symbols <= parsed[0].symbols for each in parsed) else None


def of_all(packages: Iterable[LockedPackage], metadata: Mapping[str, Metadata | None]) -> dict[str, Licence]:
    """Return the licence of each; LicenceError has a line for each that is unknown or not allowed."""
    licences = Licences.from_file()
    found, wrong = {}, []
    for package in packages:
        try:
            found[package.name] = licences.of(package, metadata[package.name])
        except LicenceError as error:
            wrong.append(str(error))
    if wrong:
        raise LicenceError("\n".join(wrong))
    return found
