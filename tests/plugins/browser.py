"""A real Chromium for the tests of the pages.

    def test_it(browser, live):
        with visitor(browser, live) as page:        # somebody who may everything
            page.goto(f"{page.backup}/admin/backups")

One browser serves the whole run. Chromium comes with the machine (`apt-get install chromium`);
without it these tests are skipped, and with CI set they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
AXE = Path(__file__).parents[1] / "interop" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser without anything in it."""
    chromium = shutil.which("chromium")
    if chromium is None or not AXE.exists():
        missing = "Debian's chromium, or npm's axe-core, is not installed"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        yield launched
        launched.close()


def faults_of(page: Page) -> list[str]:
    """Return what axe-core finds wrong with a page, a line each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations']})).violations.flatMap("
        "v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 160)} ${n.failureSummary}`))"
    )
    return [str(line) for line in found]
