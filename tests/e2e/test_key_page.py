"""The key's page in a browser: what leaving asks, and that its time ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.callers import House
from tests.keeping import KEY
from tests.openhouse import Site, opened, say_of_the_log
from tests.plugins.postgres import TestPostgres
from tests.showing import CONTENT, waiting_backup
from tests.visiting import Visitor, window


@pytest.fixture(scope="module")
def site(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    house = House.create(postgres, tmp_path_factory.mktemp("house"))
    with pytest.MonkeyPatch.context() as patch, house.stack, opened(house) as where:
        say_of_the_log(patch)
        yield Site(house, where, {})


def shown(found: Visitor, site: Site) -> Page:
    """Let a key be shown."""
    found.enter(site.house.session("everything"))
    page = found.see(f"/admin/backups/{waiting_backup(site.house.backup)}/key")
    page.get_by_role("button", name="Show the key").click()
    assert page.locator("pre.secret").inner_text() == KEY
    return page


def test_the_file_is_downloaded_beside_the_key_without_a_question(
    browser: Browser, site: Site
) -> None:
    with window(browser, site.where) as found:
        page = shown(found, site)
        # A browser asks only somebody who has done something on the page.
        page.locator("pre.secret").click()
        with page.expect_download() as file:
            page.get_by_role("link", name="Download the file").click()
        assert file.value.path().read_bytes() == CONTENT
        assert found.dialogs == []
        assert page.locator("pre.secret").inner_text() == KEY
        found.check()
        page.reload()
        assert found.dialogs == ["beforeunload"], "leaving still asks"


@pytest.mark.parametrize("script", [True, False])
def test_the_page_ends_with_the_window_and_not_later(
    browser: Browser, site: Site, script: bool
) -> None:
    with window(browser, site.where, script=script) as found:
        page = shown(found, site)
        clock, window_s = site.house.clock, site.house.backup.settings.keys.repeat_window_s
        clock.pass_(seconds=window_s - 3)
        began = time.monotonic()
        page.reload()
        assert page.locator("pre.secret").inner_text() == KEY
        clock.pass_(seconds=3)
        expect(page.get_by_text("It was shown once and is kept nowhere")).to_be_visible()
        assert time.monotonic() - began < 15
        assert KEY not in page.content()
        assert found.dialogs == (["beforeunload"] if script else [])


def test_without_cookies_nothing_is_taken_and_it_is_said(browser: Browser, site: Site) -> None:
    with window(browser, site.where) as found:
        found.enter(site.house.session("everything"))
        page = found.see(f"/admin/backups/{waiting_backup(site.house.backup)}/key")
        page.context.clear_cookies(name="secryn-viewing")
        page.get_by_role("button", name="Show the key").click()
        page.get_by_text("Nothing was shown yet, and nothing is lost").wait_for()
        found.check()
        page.get_by_role("button", name="Show the key").click()
        assert page.locator("pre.secret").inner_text() == KEY
