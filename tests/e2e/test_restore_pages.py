"""The worst day in a browser: choose, check, look at what would be lost, rehearse, restore, undo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.client.http import Json
from tests.accessing import PASSWORD
from tests.plugins.live import Live
from tests.visiting import EVERYTHING, PHONE, Visitor, add_person, visitor

# Projects of this module alone.
BEFORE, BEHIND = f"before {uuid4()}", f"behind {uuid4()}"


@pytest.fixture(scope="module")
def made(live: Live) -> tuple[Json, str]:
    """A backup with its key, and something that was written behind it."""
    add_person(live, "anna", *EVERYTHING)
    live.add_project(BEFORE)
    made = live.backup()
    live.add_project(BEHIND)
    return made


@pytest.fixture
def admin(browser: Browser, live: Live, made: object) -> Iterator[Visitor]:
    with visitor(browser, live) as found:
        found.sign_in("anna", "/admin/restore/")
        yield found


def check(page: Page, backup: Json, key: str) -> None:
    page.locator(f'input[value="{backup["backup_id"]}"]').check()
    page.get_by_label("Key file, or the line").fill(key)
    page.get_by_role("button", name="Check it").click()
    while (again := page.get_by_role("button", name="Look again")).count():
        # Without a script a person asks.
        again.click()
    page.get_by_text("All of them hold").wait_for()


def confirm(page: Page, environment: str, button: str) -> None:
    page.get_by_label("Reason").fill("the worst day")
    page.get_by_label("to confirm").fill(environment)
    page.get_by_role("button", name=button).click()


def test_a_rehearsal_then_a_restore_then_its_undo(
    admin: Visitor, live: Live, made: tuple[Json, str]
) -> None:
    backup, key = made
    environment = live.stack.status()["environment"]
    page = admin.page
    admin.check()
    check(page, backup, key)
    assert page.get_by_text("1 event", exact=True).is_visible(), "what would be lost"
    assert key.splitlines()[-1] not in page.content(), "no key stands in the page"
    admin.check()
    page.get_by_role("button", name="Rehearse").click()
    page.get_by_text("This backup can be restored").wait_for()
    admin.check()
    assert live.projects() >= {BEFORE, BEHIND}

    page = admin.see("/admin/restore/")
    check(page, backup, key)
    confirm(page, "another", "Replace everything")
    assert page.get_by_text("Nothing was started").is_visible()
    admin.said.clear()  # The browser notes the status 409.
    confirm(page, environment, "Replace everything")
    page.get_by_text("Every row equals the backup").wait_for()
    assert live.projects() & {BEFORE, BEHIND} == {BEFORE}
    # The restore has ended the session: its starter still sees it, and can undo it.
    admin.check()
    confirm(page, environment, "Undo this restore")
    page.get_by_text("The instance is what it was before the restore").wait_for()
    assert live.projects() >= {BEFORE, BEHIND}
    admin.see("/admin/backups")
    assert page.get_by_label("Password").is_visible(), "a receipt opens nothing else"


def send_twice(page: Page, form: str, environment: str) -> None:
    """Send a form twice, as a second click does, and see where it led."""
    page.get_by_label("Reason").fill("the worst day, twice")
    page.get_by_label("to confirm").fill(environment)
    led = page.evaluate(
        """async (selector) => {
            const form = document.querySelector(selector), led = [];
            for (let time = 0; time < 2; time += 1) {
                const body = new URLSearchParams(new FormData(form));
                led.push((await fetch(form.action, {method: "POST", body})).url);
            }
            return led;
        }""",
        form,
    )
    assert led[0] == led[1]
    page.goto(led[0])


def test_a_restore_and_an_undo_that_are_asked_for_twice_are_one_and_their_starter_sees_both(
    admin: Visitor, live: Live, made: tuple[Json, str]
) -> None:
    environment = live.stack.status()["environment"]
    before = len(live.services.restores.list()["restores"])
    page = admin.page
    check(page, *made)
    send_twice(page, "#decide", environment)
    page.get_by_text("Every row equals the backup").wait_for()
    send_twice(page, "form[action$='/undo']", environment)
    page.get_by_text("The instance is what it was before the restore").wait_for()
    assert len(live.services.restores.list()["restores"]) == before + 2
    assert live.projects() >= {BEFORE, BEHIND}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("nonsense", "key.malformed"),
        (
            "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQSNGPSQ2",
            "key.malformed",
        ),
    ],
)
def test_what_is_no_key_is_said_at_once(
    admin: Visitor, made: tuple[Json, str], typed: str, told: str
) -> None:
    page = admin.page
    page.get_by_label("Key file, or the line").fill(typed)
    page.get_by_role("button", name="Check it").click()
    assert page.get_by_text("Nothing was started").is_visible()
    assert page.get_by_text(told).is_visible()
    assert page.get_by_label("Key file, or the line").input_value() == "", "a key is not repeated"


def test_the_key_of_another_backup_is_refused_by_the_first_check(
    admin: Visitor, live: Live, made: tuple[Json, str]
) -> None:
    _, other_key = live.backup()
    page = admin.page
    page.locator(f'input[value="{made[0]["backup_id"]}"]').check()
    page.get_by_label("Key file, or the line").fill(other_key)
    page.get_by_role("button", name="Check it").click()
    page.get_by_text("The key opens it: does not hold").wait_for(state="attached")
    assert page.get_by_text("archive.wrong_key_or_header").is_visible()
    assert page.get_by_label("to confirm").count() == 0
    admin.check()


def test_an_uploaded_file_is_restored_from_and_what_is_none_is_refused(
    admin: Visitor, live: Live, made: tuple[Json, str], tmp_path: Path
) -> None:
    file = live.archive(made[0], tmp_path)
    (tmp_path / "cut.age").write_bytes(file.read_bytes()[:-1000])
    page = admin.page
    for chosen, told in (
        (file, "All of them hold"),
        (tmp_path / "cut.age", "This cannot be restored"),
    ):
        page.get_by_label("The backup file").set_input_files(chosen)
        page.get_by_text(f"{chosen.name} is here").wait_for()
        assert page.get_by_label("A file from this computer").is_checked()
        (tmp_path / "its.key").write_text(made[1])
        page.get_by_label("or choose the key file").set_input_files(tmp_path / "its.key")
        expect(page.get_by_label("Key file, or the line")).not_to_have_value("")
        page.get_by_role("button", name="Check it").click()
        page.get_by_text(told).wait_for()
        admin.check()
        admin.see("/admin/restore/")


def test_without_a_script_and_on_a_phone(
    browser: Browser, live: Live, made: tuple[Json, str]
) -> None:
    with visitor(browser, live, width=PHONE, scheme="dark", script=False) as plain:
        page = plain.sign_in("anna", "/admin/restore/")
        check(page, *made)
        assert page.get_by_role("button", name="Replace everything").is_visible()
    with visitor(browser, live, width=PHONE, scheme="dark") as phone:
        page = phone.sign_in("anna", "/admin/restore/")
        phone.check()
        check(page, *made)
        phone.check()


def test_a_reader_is_told_what_is_missing(browser: Browser, live: Live) -> None:
    add_person(live, "onlooker", "backup.read")
    with visitor(browser, live) as reader:
        page = reader.see("/admin/restore/")
        page.get_by_label("Name").fill("onlooker")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="You may not do this").wait_for()
