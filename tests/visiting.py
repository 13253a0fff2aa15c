"""Somebody who visits the pages of a stack with a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Dialog, Page

from deploy.embedded.folder import open_state
from tests.plugins.browser import faults_of
from tests.plugins.live import Live

DESK, PHONE = 1440, 390


@dataclass
class Visitor:
    """A person at a window: where both services are, what the window's console said."""

    page: Page
    backup: str
    restore: str
    said: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def see(self, path: str) -> Page:
        """Open a page of backup_service, or of restore_service below /admin/restore."""
        base = self.restore if path.startswith("/admin/restore") else self.backup
        self.page.goto(base + path)
        return self.page

    def check(self) -> None:
        """Hold the page against what every page promises."""
        assert faults_of(self.page) == [], self.page.url
        width = self.page.evaluate("document.documentElement.scrollWidth")
        seen = self.page.evaluate("document.documentElement.clientWidth")
        assert width <= seen, f"{self.page.url} is wider than the window"
        assert self.said == [], self.page.url


@contextmanager
def visitor(
    browser: Browser, live: Live, *, width: int = DESK, scheme: Any = "light", script: bool = True
) -> Iterator[Visitor]:
    """Let the operator visit the pages of ``live``."""
    status = live.stack.status()
    token = open_state(live.stack.state).token.read_text(encoding="ascii").strip()
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=script,
        extra_http_headers={"Authorization": f"Bearer {token}"},
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    found = Visitor(page, status["backup_url"], status["restore_url"])

    def accept(dialog: Dialog) -> None:
        found.dialogs.append(dialog.type)
        dialog.accept()

    page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.said.append(str(error)))
    page.on("dialog", accept)
    try:
        yield found
    finally:
        context.close()
