"""What pip-audit finds, as `make audit` reads it."""

from tools.audit import pip_audit_findings

KNOWN = {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": "A weakness\n" * 200}


def test_a_package_that_was_skipped_is_not_taken_for_one_without_vulnerabilities() -> None:
    skipped = {"name": "amqp", "skip_reason": "Dependency not found on PyPI and could not be audited: amqp (5.4.2)"}
    findings = pip_audit_findings({"dependencies": [skipped, {"name": "vine", "version": "5.1.0", "vulns": []}]}, {})
    assert findings.checked == 1
    assert findings.vulnerable == []
    assert findings.unchecked == [f"1 Python packages, the first: {skipped['skip_reason']}"]


def test_a_vulnerable_package_is_shown_with_its_users_and_the_release_that_is_not() -> None:
    package = {"name": "redis", "version": "1.0", "vulns": [KNOWN, KNOWN | {"id": "PYSEC-2", "fix_versions": []}]}
    findings = pip_audit_findings({"dependencies": [package]}, {"redis": ["worker", "dev"]})
    assert [line.split(": A weakness")[0] for line in findings.vulnerable] == [
        "redis 1.0 (worker, dev): PYSEC-1, fixed in 2.1, 3.0",
        "redis 1.0 (worker, dev): PYSEC-2, fixed in no release",
    ]
    assert max(map(len, findings.vulnerable)) < 300
