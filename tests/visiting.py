"""Somebody who visits the pages of a stack with a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from playwright.sync_api import Browser, Dialog, Page

from serving.caller import PERMISSIONS
from shared.instance import events as ie
from tests.accessing import HASHER, PASSWORD
from tests.plugins.browser import faults_of
from tests.plugins.live import Live

DESK, PHONE = 1440, 390
EVERYTHING = tuple(f"backup.{permission}" for permission in sorted(PERMISSIONS))


def add_person(live: Live, name: str, *permissions: str) -> None:
    """Give the instance a user with a role of its own, and the password of every test.

    Whoever is there already, from a module before, stays as he is.
    """
    with live.admin() as conn:
        known = conn.execute("SELECT 1 FROM instance.users WHERE username = %s", (name,))
        if known.fetchone() is not None:
            return
    user, role = uuid4(), uuid4()
    hashed = HASHER.hash(PASSWORD)
    events: list[ie.InstanceEvent] = [
        ie.UserCreated(
            id=user, username=name, display_name=name, email=f"{name}@example.org",
            password_hash=hashed,
        ),
        ie.RoleCreated(id=role, name=f"of {name}", permissions=permissions),
        ie.RoleBindingCreated(id=uuid4(), role_id=role, user_id=user, scope_kind="instance"),
    ]  # fmt: skip
    for event in events:
        written = live.append(event)
    live.platform.writer.wait_until_stored(written, 20)


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

    def sign_in(self, name: str, path: str = "/admin/backups") -> Page:
        """Open a page as a person of the instance: the door is on the way."""
        page = self.see(path)
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("navigation", name="Main").wait_for()
        return page

    def enter(self, headers: dict[str, str]) -> None:
        """Be somebody whose session has begun already: by its cookie."""
        name, _, value = headers["Cookie"].partition("=")
        self.page.context.add_cookies([{"name": name, "value": value, "url": self.backup}])

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
    """Let somebody visit the pages of ``live``."""
    status = live.stack.status()
    where = (status["backup_url"], status["restore_url"])
    with window(browser, where, width=width, scheme=scheme, script=script) as found:
        yield found


@contextmanager
def window(
    browser: Browser,
    where: tuple[str, str],
    *,
    width: int = DESK,
    scheme: Any = "light",
    script: bool = True,
) -> Iterator[Visitor]:
    """Open a window on the pages of backup_service and of restore_service."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=script,
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    found = Visitor(page, *where)

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
