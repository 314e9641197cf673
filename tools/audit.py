"""``make audit``: is a vulnerability known of what the locks name? The services of PyPI and npm are asked.

Ends with 0 where none is known, 1 where one is, and 2 where a package could not be checked.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.locked import DEPLOYED, ROOT, lock_file, read_lock

LOCKS = (*DEPLOYED, "image", "dev", "audit")
NODE = ("examples/node", "tests/node")
_HINT = """\
`make audit` asks the vulnerability services of PyPI and npm. Is there a way to them, and does a mirror in between pass
such questions on? PIP_AUDIT_VULNERABILITY_SERVICE=osv asks OSV instead of PyPI.
"""


@dataclass
class Findings:
    """What is vulnerable, and what could not be checked: a line each."""

    vulnerable: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    checked: int = 0


def python_packages(locks: Sequence[str] = LOCKS) -> Findings:
    """Ask about each package of the locks."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
    for lock in locks:
        command += ["--requirement", str(lock_file(lock))]
    answer, words = _json([*command, "--progress-spinner", "off"])
    if answer is None or "dependencies" not in answer:
        return Findings(unchecked=[f"all Python packages: {words}"])
    users: dict[str, list[str]] = {}
    for lock in locks:
        for package in read_lock(lock_file(lock)):
            users.setdefault(package.name, []).append(lock)
    return pip_audit_findings(answer, users)


def pip_audit_findings(answer: Mapping[str, Any], users: Mapping[str, Sequence[str]]) -> Findings:
    """Read pip-audit's JSON. What it skips is unchecked here; it calls that "No known vulnerabilities found" itself."""
    findings, skipped = Findings(), []
    for each in answer["dependencies"]:
        if "skip_reason" in each:
            skipped.append(each["skip_reason"])
            continue
        findings.checked += 1
        name = f"{each['name']} {each['version']} ({', '.join(users.get(each['name'], ()))})"
        for known in each["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no release"
            what = textwrap.shorten(known["description"], 200)
            findings.vulnerable.append(f"{name}: {known['id']}, fixed in {fixed}: {what}")
    if skipped:
        findings.unchecked = [f"{len(skipped)} Python packages, the first: {skipped[0]}"]
    return findings


def node_packages(folder: str) -> Findings:
    """Ask about each package of a folder's package-lock.json."""
    lock = json.loads((ROOT / folder / "package-lock.json").read_text(encoding="utf-8"))
    count = len(lock["packages"]) - 1
    answer, words = _json(["npm", "audit", "--package-lock-only", "--json"], folder)
    if answer is None or "vulnerabilities" not in answer:
        return Findings(unchecked=[f"{count} Node packages of {folder}: {(answer or {}).get('message', words)}"])
    return Findings(list(_advisories(folder, answer["vulnerabilities"])), checked=count)


def _advisories(folder: str, vulnerable: Mapping[str, Any]) -> Iterator[str]:
    for name, each in vulnerable.items():
        # A text instead of an object: vulnerable by another package, which has a line of its own.
        for advisory in (via for via in each["via"] if isinstance(via, dict)):
            what = f"{advisory['title']} ({advisory['severity']}), {advisory['url']}"
            yield f"{name} {advisory['range']} ({folder}): {what}"


def _json(command: Sequence[str], folder: str = ".") -> tuple[dict[str, Any] | None, str]:
    """Run a command; return the object that it writes, or None, and the last line of its complaints."""
    try:
        done = subprocess.run(
            command, cwd=ROOT / folder, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"}
        )
    except FileNotFoundError:
        return None, f"{command[0]} is not installed"
    words = done.stderr.strip().splitlines() or [f"{command[0]} ended with {done.returncode} and said nothing"]
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return None, textwrap.shorten(words[-1], 240)
    return answer if isinstance(answer, dict) else None, words[-1]


def main() -> int:
    """Ask about all, and show what was found."""
    each = [python_packages(), *map(node_packages, NODE)]
    vulnerable = [line for findings in each for line in findings.vulnerable]
    unchecked = [line for findings in each for line in findings.unchecked]
    for line in vulnerable:
        sys.stdout.write(f"vulnerable: {line}\n")
    for line in unchecked:
        sys.stdout.write(f"not checked: {line}\n")
    checked = sum(findings.checked for findings in each)
    sys.stdout.write(f"{checked} packages checked, {len(vulnerable)} vulnerabilities known\n")
    if unchecked:
        sys.stdout.write(_HINT)
    if vulnerable:
        return 1
    return 2 if unchecked else 0


if __name__ == "__main__":
    sys.exit(main())
