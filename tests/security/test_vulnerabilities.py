"""`make audit` shows known vulnerabilities of what is locked, and takes what it could not check for no success."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import ROOT

pytestmark = pytest.mark.tools


class VulnerabilityService(BaseHTTPRequestHandler):
    """Answers as OSV and npm do: one package of each is vulnerable."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/osv":
            name = json.loads(body)["package"]["name"]
            answer: Any = {"vulns": [OSV]} if name == "urllib3" else {}
        elif self.headers.get("Content-Encoding") == "gzip":
            answer = {"ioredis": [ADVISORY]} if "ioredis" in json.loads(gzip.decompress(body)) else {}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep the test's output short."""


OSV = {
    "id": "PLANTED-1",
    "summary": "A planted weakness",
    "affected": [
        {
            "package": {"name": "urllib3", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}
ADVISORY = {
    "id": 1,
    "url": "https://example.com/planted",
    "title": "Another planted weakness",
    "severity": "high",
    "vulnerable_versions": "<99",
}


@pytest.fixture
def vulnerability_service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), VulnerabilityService)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


def audit(tmp_path: Path, service: str, path: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PIP_AUDIT_VULNERABILITY_SERVICE": "osv",
        "PIP_AUDIT_OSV_URL": service + path,
        "npm_config_registry": service,
        "npm_config_fetch_retries": "0",
        "npm_config_cache": str(tmp_path / "npm"),
        "NO_PROXY": "127.0.0.1",
    }
    command = [f"{sys.prefix}-audit/bin/python", "-m", "tools.audit"]  # `make check` makes it
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False, timeout=100
    )


def test_the_audit_shows_what_is_vulnerable_and_where(vulnerability_service: str, tmp_path: Path) -> None:
    done = audit(tmp_path, vulnerability_service, "/osv")
    vulnerable = [line for line in done.stdout.splitlines() if line.startswith("vulnerable: ")]
    assert len(vulnerable) == 2, done.stdout
    assert "urllib3" in vulnerable[0]
    assert "(worker, dev, audit): PLANTED-1, fixed in 99.1: A planted weakness" in vulnerable[0]
    assert "ioredis" in vulnerable[1]
    assert "(examples/node): Another planted weakness (high), https://example.com/planted" in vulnerable[1]
    assert "not checked" not in done.stdout
    assert (done.returncode, done.stderr) == (1, "")


def test_an_audit_without_a_network_says_so_and_is_no_success(tmp_path: Path) -> None:
    done = audit(tmp_path, "http://127.0.0.1:9", "/osv")
    assert [line.split(": ")[0] for line in done.stdout.splitlines()[:3]] == ["not checked"] * 3
    assert "0 packages checked, 0 vulnerabilities known" in done.stdout
    assert "Is there a way to them" in done.stdout
    assert (done.returncode, done.stderr) == (2, "")
