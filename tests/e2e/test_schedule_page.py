"""Schedule, retention and operations in a browser: what will be done, before it is saved; and was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.plugins.live import Live
from tests.visiting import EVERYTHING, PHONE, Visitor, add_person, visitor


@pytest.fixture(scope="module", autouse=True)
def people(live: Live) -> None:
    add_person(live, "anna", *EVERYTHING)
    add_person(live, "reader", "backup.read")


@pytest.fixture
def admin(browser: Browser, live: Live) -> Iterator[Visitor]:
    with visitor(browser, live) as found:
        found.sign_in("anna", "/admin/schedule")
        yield found


def test_a_schedule_shows_its_next_ten_runs_before_it_is_saved(admin: Visitor, live: Live) -> None:
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
    schedule = live.services.backups.connection.call("GET", "/api/v1/schedule")
    assert schedule["value"]["enabled"] is False, "looking changes nothing"
    page.get_by_role("button", name="Save the schedule").click()
    page.get_by_role("heading", name="The next runs").wait_for()
    schedule = live.services.backups.connection.call("GET", "/api/v1/schedule")
    assert (schedule["value"]["frequency"], schedule["value"]["weekday"]) == ("weekly", "friday")
    assert schedule["changed_by"] == "user:anna"
    admin.see("/admin/backups")
    assert page.get_by_text("by the schedule").is_visible()
    page = admin.see("/admin/schedule")
    page.get_by_label("Make backups by schedule").uncheck()
    page.get_by_role("button", name="Save the schedule").click()
    assert page.get_by_text("backups are made by hand alone").is_visible()


def test_saving_the_form_leaves_what_it_does_not_show(admin: Visitor, live: Live) -> None:
    settings = live.services.configuration

    def setting(name: str) -> dict[str, Any]:
        return dict(settings.get(name)["value"])

    def change(name: str, value: dict[str, Any]) -> None:
        settings.set(name, value, "*", "a test")

    before = {name: setting(name) for name in ("schedule", "retention")}
    hidden = {"jitter_s": 600, "after_events_pause_s": 120, "paused_until": "2099-01-01"}
    change("schedule", before["schedule"] | hidden)
    change("retention", before["retention"] | {"zone": "Europe/Berlin"})
    try:
        page = admin.see("/admin/schedule")
        page.get_by_label("At", exact=True).fill("04:20")
        page.get_by_role("button", name="Save the schedule").click()
        page.wait_for_url("**/admin/schedule")
        assert setting("schedule") == before["schedule"] | hidden | {"at": "04:20"}
        page.get_by_label("Keep the newest").fill("500")
        page.get_by_role("button", name="Save the rules").click()
        page.wait_for_url("**/admin/schedule#retention")
        kept = {"zone": "Europe/Berlin", "keep_last": 500}
        assert setting("retention") == before["retention"] | kept
        admin.check()
    finally:
        for name, value in before.items():
            change(name, value)


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


def test_a_reader_may_look_and_not_change(browser: Browser, live: Live) -> None:
    with visitor(browser, live, width=PHONE, scheme="dark") as reader:
        page = reader.sign_in("reader", "/admin/schedule")
        assert page.get_by_text("You may look, but not change").is_visible()
        assert page.get_by_role("button", name="Save the schedule").count() == 0
        reader.check()


def backups(count: int) -> str:
    return "1 backup" if count == 1 else f"{count} backups"


def test_the_rules_show_what_would_go_before_they_are_saved(admin: Visitor, live: Live) -> None:
    for _ in range(2):
        live.backup()
    page = admin.page
    page.get_by_label("Keep the newest").fill("1")
    page.get_by_role("button", name="Show what would go first").click()
    judged = live.services.backups.connection.call(
        "POST", "/api/v1/retention/preview", {"value": {"keep_last": 1}}
    )
    told = f"{backups(judged['purge'])} would go, {backups(judged['keep'])} would stay"
    assert page.get_by_text(told).is_visible()
    admin.check()
    rules = live.services.backups.connection.call("GET", "/api/v1/configuration/retention")
    assert rules["value"]["keep_last"] is None, "looking changes nothing"


def test_an_operation_is_listed_while_one_looks_and_leads_to_its_key(
    admin: Visitor, live: Live
) -> None:
    page = admin.see("/admin/operations")
    asked = live.services.backups.create("made meanwhile")
    row = page.get_by_role("row").filter(has_text="made meanwhile")
    # By the stream of changes: without it the list is fetched anew every 15 s.
    row.get_by_text("Done").wait_for(timeout=10_000)
    admin.check()
    page.get_by_label("What").select_option("backup")
    page.get_by_role("button", name="Filter").click()
    row.get_by_role("link", name="View key").click()
    page.get_by_role("button", name="Show the key").click()
    page.get_by_label("I have stored it").check()
    page.get_by_role("button", name="Done: forget it here").click()
    page.wait_for_url(f"**/backups/{asked['backup_id']}")
    admin.see("/admin/operations")
    assert row.get_by_text("Viewed").is_visible()
    assert row.get_by_text("by user:anna, ").is_visible()
    admin.check()


def test_a_held_backup_says_so_and_the_history_finds_it(admin: Visitor, live: Live) -> None:
    backup, _ = live.backup()
    page = admin.see(f"/admin/backups/{backup['backup_id']}")
    page.get_by_text("Hold it: it is not purged").click()
    page.locator("#hold-reason").fill("for the auditors")
    page.get_by_role("button", name="Hold it").click()
    kept = page.locator("#kept")
    kept.get_by_text("for the auditors").wait_for()
    admin.check()
    page = admin.see("/admin/backups")
    page.get_by_label("State").select_option("created")
    page.get_by_label("In the reason").fill("a test")
    page.get_by_label("Key").select_option("viewed")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="Size").click()
    assert page.locator("th[aria-sort]").inner_text().startswith("Size")
    assert page.get_by_text("Held").first.is_visible()
    admin.check()
    page = admin.see(f"/admin/backups/{backup['backup_id']}")
    page.get_by_role("button", name="Release").click()
    page.get_by_text("Hold it: it is not purged").wait_for()
