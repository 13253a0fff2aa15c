"""An administrator makes a backup in a browser, and stores file and key apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from shared.archive.keyfile import check_key_file
from tests.accessing import PASSWORD
from tests.plugins.live import Live
from tests.visiting import EVERYTHING, PHONE, Visitor, add_person, visitor

MARKUP = 'before <script>alert("x")</script> & <b>4.2</b>'


@pytest.fixture(scope="module", autouse=True)
def people(live: Live) -> None:
    add_person(live, "anna", *EVERYTHING)
    add_person(live, "reader", "backup.read")


@pytest.fixture
def admin(browser: Browser, live: Live) -> Iterator[Visitor]:
    with visitor(browser, live) as found:
        found.sign_in("anna")
        yield found


def create(page: Page, reason: str) -> None:
    page.get_by_role("link", name="Create backup").click()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Create backup").click()
    page.get_by_role("link", name="View the key").wait_for()


def show_key(page: Page) -> str:
    page.get_by_role("link", name="View the key").click()
    page.get_by_role("button", name="Show the key").click()
    return page.get_by_label("The key", exact=True).locator("pre.secret").inner_text()


def test_a_backup_is_made_downloaded_and_its_key_is_shown_once(
    admin: Visitor, tmp_path: Path
) -> None:
    page = admin.see("/admin/backups")
    admin.check()
    create(page, MARKUP)
    # What a person typed is text, wherever it is shown.
    assert MARKUP in page.locator("main").inner_text()
    admin.check()
    with page.expect_download() as file:
        page.get_by_role("link", name="Download the file").click()
    file.value.save_as(tmp_path / "backup.age")
    secret = show_key(page)
    assert secret.startswith("AGE-SECRET-KEY-PQ-1")
    admin.check()
    page.reload()
    assert admin.dialogs == ["beforeunload"], "leaving asks"
    assert page.locator("pre.secret").inner_text() == secret
    with page.expect_download() as key:
        page.get_by_role("button", name="Save key file").click()
    key.value.save_as(tmp_path / "backup.key")
    assert check_key_file(tmp_path / "backup.key", tmp_path / "backup.age")["belong_together"]
    page.get_by_label("I have stored it").check()
    page.get_by_role("button", name="Done: forget it here").click()
    page.get_by_text("Viewed", exact=True).wait_for()
    assert admin.dialogs == ["beforeunload"]
    page.go_back()
    page.get_by_text("It was shown once and is kept nowhere").wait_for()
    assert secret not in page.content()
    admin.check()
    page.get_by_role("link", name="Backups", exact=True).first.click()
    assert page.get_by_role("row").filter(has_text=MARKUP).get_by_text("Proven").is_visible()
    admin.check()


def test_the_key_that_somebody_sees_is_nowhere_in_the_database(admin: Visitor, live: Live) -> None:
    page = admin.see("/admin/backups")
    create(page, "where is the key")
    secret = show_key(page)
    with live.admin() as conn:
        (document,) = conn.execute(
            "SELECT string_agg(w::text, ' ') FROM backup.waiting_keys w"
        ).fetchone() or ("",)
    assert secret not in document
    assert secret.encode().hex() not in document
    cookie = next(c for c in page.context.cookies() if c["name"] == "secryn-viewing")
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert cookie["path"].endswith("/key")
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in cookie["value"] and digest not in cookie["value"]


def test_two_tabs_that_create_at_once_make_a_backup_each_with_a_key_each(
    admin: Visitor, live: Live
) -> None:
    first, second = admin.page, admin.page.context.new_page()
    reasons = {first: "from one tab", second: "from the other tab"}
    for page, reason in reasons.items():
        page.goto(f"{admin.backup}/admin/backups/new")
        page.get_by_label("Reason").fill(reason)
    for page in reasons:
        page.get_by_role("button", name="Create backup").click(no_wait_after=True)
    for page in reasons:
        page.get_by_role("link", name="View the key").wait_for()
    assert first.url != second.url
    made = [b for b in live.services.backups.list()["backups"] if b["reason"] in reasons.values()]
    assert sorted(backup["state"] for backup in made) == ["created", "created"]
    assert show_key(first) != show_key(second)
    second.close(run_before_unload=False)


def test_another_session_does_not_see_the_key(admin: Visitor, browser: Browser, live: Live) -> None:
    page = admin.see("/admin/backups")
    create(page, "for one alone")
    show_key(page)
    with visitor(browser, live) as other:
        other.sign_in("anna")
        other.page.goto(page.url)
        assert other.page.get_by_text("It was shown once and is kept nowhere").is_visible()
        assert "AGE-SECRET-KEY" not in other.page.content()


def test_everything_goes_without_a_script(browser: Browser, live: Live) -> None:
    with visitor(browser, live, script=False) as plain:
        page = plain.sign_in("anna")
        create(page, "without a script")
        assert show_key(page).startswith("AGE-SECRET-KEY-")


def test_the_pages_fit_a_phone_in_the_dark(browser: Browser, live: Live) -> None:
    with visitor(browser, live, width=PHONE, scheme="dark") as phone:
        phone.see("/admin/sign-in")
        phone.check()
        phone.sign_in("anna")
        for path in ("/admin/backups", "/admin/backups/new"):
            phone.see(path)
            phone.check()
        create(phone.see("/admin/backups"), "on a phone")
        phone.check()
        show_key(phone.page)
        phone.check()


def test_what_is_wrong_is_said_beside_what_was_typed(admin: Visitor) -> None:
    page = admin.see("/admin/backups/new")
    page.get_by_label("Reason").fill("a typo")
    page.get_by_text("Encrypt it to a recipient").click()
    page.get_by_label("age recipients").fill("age1nonsense")
    page.get_by_role("button", name="Create backup").click()
    assert page.get_by_text("Nothing was started").is_visible()
    assert page.get_by_label("Reason").input_value() == "a typo"
    admin.said.clear()  # The browser notes the status 400.
    admin.check()
    page = admin.see("/admin/backups/00000000-0000-4000-8000-000000000000")
    assert page.get_by_text("There is nothing here").is_visible()


def test_the_keyboard_alone_makes_a_backup(admin: Visitor) -> None:
    page = admin.see("/admin/backups")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_label("Reason").focus()
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="View the key").wait_for()


def test_the_door_says_the_same_to_a_wrong_name_and_a_wrong_password(
    browser: Browser, live: Live
) -> None:
    with visitor(browser, live) as stranger:
        page = stranger.see("/admin/backups/new")
        answers = []
        for name in ("anna", "nobody"):
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill("not the password")
            page.get_by_role("button", name="Sign in").click()
            answers.append(page.get_by_role("alert").inner_text())
        assert answers[0] == answers[1]
        stranger.said.clear()  # The browser notes the status 401.
        stranger.check()
        stranger.page.get_by_label("Name").fill("anna")
        stranger.page.get_by_label("Password").fill(PASSWORD)
        stranger.page.get_by_role("button", name="Sign in").click()
        assert page.get_by_role("heading", name="Create backup").is_visible(), (
            "back to where it was"
        )


@pytest.mark.parametrize("following", ["//elsewhere.example", "https://elsewhere.example", "/x"])
def test_the_door_leads_nowhere_else(browser: Browser, live: Live, following: str) -> None:
    with visitor(browser, live) as stranger:
        page = stranger.see(f"/admin/sign-in?next={following}")
        assert page.locator("input[name=next]").input_value() == "/admin/home"


def test_who_may_only_read_sees_no_way_further(browser: Browser, live: Live) -> None:
    with visitor(browser, live) as reader:
        page = reader.sign_in("reader")
        assert page.get_by_role("link", name="Create backup").count() == 0
        page = reader.see("/admin/backups/new")
        assert page.get_by_role("heading", name="You may not do this").is_visible()
        reader.said.clear()  # The browser notes the status 403.
        reader.check()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Password").wait_for()


def test_a_key_takes_a_fresh_proof(admin: Visitor, live: Live) -> None:
    page = admin.page
    create(page, "a key, ten minutes later")
    with live.admin() as conn:
        conn.execute("UPDATE access.sessions SET proven_at = proven_at - interval '10 minutes'")
    page.get_by_role("link", name="View the key").click()
    page.get_by_role("button", name="Show the key").click()
    page.get_by_role("heading", name="Once more, please").wait_for()
    admin.check()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Show the key").click()
    page.locator("pre.secret").wait_for()
