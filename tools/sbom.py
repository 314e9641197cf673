"""``make sbom``: a CycloneDX software bill of materials of each lock that is deployed, in deploy/sbom.

It is made of the lock and of the packages' metadata alone: the same for each checkout, machine and time.
"""

import json
import sys
from collections.abc import Iterable

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

from cardtoken import __version__
from tools.licences import Licence, LicenceError, of_all
from tools.locked import (
    DEPLOYED,
    PROCESS_1,
    ROOT,
    LockedPackage,
    LockError,
    deployed,
    installed,
    lock_file,
    needs,
    of_lock,
    project,
)

FOLDER = ROOT / "deploy/sbom"
VERSION = SchemaVersion.V1_6


def sbom(extra: str) -> str:
    """Return the bill of materials of an image's packages, as JSON.

    LockError where the lock lacks a package, or has one that no other needs; LicenceError where a licence is unknown or
    not allowed.
    """
    packages = deployed(extra)
    metadata = of_lock(packages, installed())
    licences = of_all(packages, metadata)
    direct, graph = needs(_requirements(extra), metadata)
    if idle := {package.name for package in packages} - set(graph):
        raise LockError(
            f"{lock_file(extra).name} has {', '.join(sorted(idle))}, which no package needs: run `make lock`"
        )
    about = project()
    itself = Component(
        name=f"{about['name']}-{extra}",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref=f"{about['name']}-{extra}",
        description=about["description"],
        licenses=[_licence(Licence(about["license"], by_metadata=True))],
    )
    bom = Bom(components=[_component(each, licences[each.name]) for each in packages])
    bom.metadata.component = itself
    bom.register_dependency(itself, [part for part in bom.components if part.name in direct])
    for component in bom.components:
        bom.register_dependency(component, [part for part in bom.components if part.name in graph[component.name]])
    return _text(bom)


def _requirements(extra: str) -> Iterable[Requirement]:
    about = project()
    return map(Requirement, [*about["dependencies"], *about["optional-dependencies"][extra], PROCESS_1])


def _component(package: LockedPackage, licence: Licence) -> Component:
    purl = PackageURL("pypi", None, package.name, package.version)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        scope=ComponentScope.OPTIONAL if package.marker else ComponentScope.REQUIRED,
        # A package has a file for each system: what is installed has one of these.
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in package.hashes],
        licenses=[_licence(licence)],
        properties=[Property(name="cardtoken:marker", value=package.marker)] if package.marker else [],
    )


def _licence(licence: Licence) -> DisjunctiveLicense | LicenseExpression:
    how = LicenseAcknowledgement.DECLARED if licence.by_metadata else LicenseAcknowledgement.CONCLUDED
    if " " in licence.expression:
        return LicenseExpression(licence.expression, acknowledgement=how)
    return DisjunctiveLicense(id=licence.expression, acknowledgement=how)


def _text(bom: Bom) -> str:
    """Return the bill without what differs each time: the time, a random serial number."""
    document = json.loads(make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if error := JsonStrictValidator(VERSION).validate_str(text):
        raise ValueError(f"not valid by CycloneDX's schema {VERSION.to_version()}: {error}")
    return text


def main() -> int:
    """Write them; return 0, or 1 with what is wrong."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for extra in DEPLOYED:
        path = FOLDER / f"{extra}.cdx.json"
        try:
            path.write_text(sbom(extra), encoding="utf-8")
        except (LicenceError, LockError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
