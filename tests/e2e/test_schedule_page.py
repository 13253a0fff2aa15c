"""An administrator sets a schedule in a browser, and sees what it will do before it is saved."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.plugins.live import Live
from tests.visiting import EVERYTHING, PHONE, Visitor, add_person, visitor


@pytest.fixture(scope="module", autouse=True)
def people(empty_live: Live) -> None:
    add_person(empty_live, "anna", *EVERYTHING)
    add_person(empty_live, "reader", "backup.read")


@pytest.fixture
def admin(browser: Browser, empty_live: Live) -> Iterator[Visitor]:
    with visitor(browser, empty_live) as found:
        found.sign_in("anna", "/admin/schedule")
        yield found


def test_a_schedule_shows_its_next_ten_runs_before_it_is_saved(
    admin: Visitor, empty_live: Live
) -> None:
    page = admin.page
    assert page.get_by_text("backups are made by hand alone").is_visible()
    admin.check()
    page.get_by_label("Make backups by schedule").check()
    page.get_by_label("Every week").check()
    page.get_by_label("On which day of the week").select_option("friday")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_role("button", name="Show its next runs first").click()
    assert page.get_by_text("Not saved yet").is_visible()
    assert page.locator("ol.runs li").count() == 10
    assert page.get_by_text("02:00 in Europe/Berlin").count() == 10
    admin.check()
    schedule = empty_live.services.backups.connection.call("GET", "/api/v1/schedule")
    assert schedule["value"]["enabled"] is False, "looking changes nothing"
    page.get_by_role("button", name="Save the schedule").click()
    page.get_by_role("heading", name="The next runs").wait_for()
    schedule = empty_live.services.backups.connection.call("GET", "/api/v1/schedule")
    assert (schedule["value"]["frequency"], schedule["value"]["weekday"]) == ("weekly", "friday")
    assert schedule["changed_by"] == "user:anna"
    admin.see("/admin/backups")
    assert page.get_by_text("by the schedule").is_visible()


def test_what_is_refused_stays_in_the_form(admin: Visitor) -> None:
    page = admin.page
    page.get_by_label("By a cron expression").check()
    page.get_by_label("Cron expression", exact=True).fill("every night")
    page.get_by_role("button", name="Save the schedule").click()
    assert page.get_by_text("Nothing was saved").is_visible()
    assert page.get_by_label("Cron expression", exact=True).input_value() == "every night"
    admin.said.clear()  # The browser notes the status 400.
    admin.check()
    page.get_by_label("Keep the newest").fill("many")
    page.get_by_role("button", name="Save the rules").click()
    assert page.get_by_text("'many' is no whole number").is_visible()


def test_a_reader_may_look_and_not_change(browser: Browser, empty_live: Live) -> None:
    with visitor(browser, empty_live, width=PHONE, scheme="dark") as reader:
        page = reader.sign_in("reader", "/admin/schedule")
        assert page.get_by_text("You may look, but not change").is_visible()
        assert page.get_by_role("button", name="Save the schedule").count() == 0
        reader.check()
