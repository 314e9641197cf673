"""``make sbom``: docs/licences.md, the licence of each locked package."""

import sys
import tomllib

from packaging.requirements import Requirement

from tools.licences import RULES, LicenceError, of_all
from tools.locked import DEPLOYED, ROOT, LockError, deployed, installed, lock_file, needs, of_lock, project, read_lock

PAGE = ROOT / "docs/licences.md"
_HEAD = """\
# Licences of the dependencies

Written by `make sbom` from the locks and from what each package says of itself; `make check` compares. It fails where
a licence is unknown, or is not allowed by `requirements/licences.toml`. *client* is what `pip install cardtoken`
brings, *worker* and *simulator* are what their images hold; *development* is deployed nowhere. What `make bench`
measures against, what `make audit` runs and what judges `deploy/kubernetes/` have environments of their own and are
not listed, nor is what the images' base holds: Debian's packages and Python.

Each wheel brings the text of its licence; in the images it is in the package's `.dist-info` folder.

Allowed: {allowed}. Besides:

{exceptions}

| package | version | licence | used by |
| --- | --- | --- | --- |
{rows}

¹ As the package's licence file says: its metadata is not precise, or it is installed on other systems alone.
"""


def page() -> str:
    """Return the page; LicenceError has a line for each package whose licence is unknown or not allowed."""
    packages = read_lock(lock_file("dev"))
    metadata = of_lock(packages, installed())
    licences = of_all(packages, metadata)
    users = {extra: {each.name for each in deployed(extra)} for extra in DEPLOYED}
    _, client = needs(map(Requirement, project()["dependencies"]), metadata)
    users = {"client": set(client), **users}
    rows = []
    for package in packages:
        licence = licences[package.name]
        used = ", ".join(user for user, names in users.items() if package.name in names) or "development"
        mark = "" if licence.by_metadata else " ¹"
        rows.append(f"| {package.name} | {package.version} | {licence.expression}{mark} | {used} |")
    rules = tomllib.loads(RULES.read_text(encoding="utf-8"))
    exceptions = [
        f"- {each['licence']} for {', '.join(each['packages'])}: {each['reason']}." for each in rules["exceptions"]
    ]
    return _HEAD.format(allowed=", ".join(rules["allowed"]), exceptions="\n".join(exceptions), rows="\n".join(rows))


def main() -> int:
    """Write the page; return 0, or 1 with what is wrong."""
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except (LicenceError, LockError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
