"""A real browser, Debian's Chromium, without a screen."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

# Nothing of the browser's own goes out: no updates, no accounts, no look-ups.
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; CHROMIUM names another than the one on PATH."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "install chromium, or set CHROMIUM to it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_QUIET)
        yield browser
        browser.close()
