"""Recent Operations while the service does not answer: the page says so, and what it shows stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.callers import House
from tests.openhouse import Site, opened, say_of_the_log
from tests.plugins.postgres import TestPostgres
from tests.showing import stored_backup
from tests.visiting import Visitor, window

SAID = "The service does not answer at this moment. This page asks again by itself."
LIST = "**/admin/operations/list**"


@pytest.fixture(scope="module")
def site(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    house = House.create(postgres, tmp_path_factory.mktemp("house"))
    with pytest.MonkeyPatch.context() as patch, house.stack, opened(house) as where:
        say_of_the_log(patch)
        stored_backup(house.backup)
        yield Site(house, where, {})


@pytest.fixture
def reader(browser: Browser, site: Site) -> Iterator[Visitor]:
    with window(browser, site.where) as found:
        found.enter(site.house.session("everything"))
        yield found


def ask(page: Page) -> None:
    """Ask for the list, as an event of the stream does."""
    page.evaluate("window.htmx.trigger(document.getElementById('operations'), 'changed')")


@pytest.mark.parametrize("cut_off", [True, False])
def test_a_list_that_gets_no_answer_says_so_and_stays(reader: Visitor, cut_off: bool) -> None:
    page = reader.see("/admin/operations")
    told, rows = page.locator("#operations [role=status]"), page.locator("#operations tbody tr")
    expect(told).to_have_text("")
    before = rows.count()
    assert before > 0
    reader.check()
    if cut_off:
        page.route(LIST, lambda route: route.abort())
    else:
        page.route(LIST, lambda route: route.fulfill(status=503, body="<b>proxy</b>"))
    ask(page)
    expect(told).to_have_text(SAID)
    assert rows.count() == before
    reader.said.clear()  # The browser notes what was not answered.
    reader.check()
    page.unroute(LIST)
    ask(page)
    expect(told).to_have_text("")
    assert rows.count() == before
    reader.check()
