"""Make the pictures of the pages in docs/images: ``python -m tests.screenshots``.

A stack of its own with the sample instance, and Debian's chromium.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.plugins.browser import CHROMIUM_FLAGS
from tests.plugins.live import live_stack
from tests.visiting import EVERYTHING, Visitor, add_person, visitor

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def main() -> None:
    """Write the pictures, each the top of a page."""
    IMAGES.mkdir(exist_ok=True)
    with live_stack("--environment", "Head office", "--environment-kind", "production") as live:
        add_person(live, "anna", *EVERYTHING)
        backup, key = live.backup()
        live.add_project("written since")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=list(CHROMIUM_FLAGS)
            )
            with visitor(browser, live, width=1200) as anna:
                anna.sign_in("anna")
                take(anna, "backups")
                anna.see("/admin/schedule")
                take(anna, "schedule")
                # Its key is not shown yet: a picture is no place for one.
                waiting = live.services.backups.create("before the migration")["backup_id"]
                live.services.backups.wait(waiting)
                anna.see(f"/admin/backups/{waiting}/key")
                take(anna, "key")
                anna.see("/admin/operations")
                take(anna, "operations")
                anna.see("/admin/audit")
                take(anna, "audit")
                page = anna.see("/admin/restore/")
                page.locator(f'input[value="{backup["backup_id"]}"]').check()
                page.get_by_label("Key file, or the line").fill(key)
                page.get_by_role("button", name="Check it").click()
                page.get_by_text("All of them hold").wait_for()
                page.get_by_role("heading", name="The safe choice").scroll_into_view_if_needed()
                take(anna, "before-a-restore")
            browser.close()


def take(anna: Visitor, name: str) -> None:
    """Write what stands in the window."""
    anna.page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
