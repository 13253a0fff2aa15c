"""An archive from this computer, in a browser: what breaks off goes on, and checks that are gone return."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from shared.archive.age.x25519 import X25519Identity
from tests.callers import House
from tests.openhouse import Site, opened, say_of_the_log
from tests.plugins.postgres import TestPostgres
from tests.visiting import PHONE, Visitor, window

MIB = 1 << 20


@pytest.fixture(scope="module")
def site(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    house = House.create(postgres, tmp_path_factory.mktemp("house"))
    with pytest.MonkeyPatch.context() as patch, house.stack, opened(house) as where:
        say_of_the_log(patch)
        yield Site(house, where, {})


@pytest.fixture
def admin(browser: Browser, site: Site) -> Iterator[Visitor]:
    with window(browser, site.where) as found:
        found.enter(site.house.session("everything"))
        yield found


def offsets_sent(page: Page, fails: list[bool]) -> list[str]:
    """Let the pieces of an upload fail in turn, as ``fails`` says; return where each began."""
    offsets: list[str] = []

    def pass_on(route: Route) -> None:
        if route.request.method == "PATCH":
            offsets.append(route.request.headers["upload-offset"])
            if fails and fails.pop(0):
                route.abort()
                return
        route.continue_()

    page.route("**/api/v1/uploads/**", pass_on)
    return offsets


def large(folder: Path, size: int = 20 * MIB) -> Path:
    file = folder / "large.age"
    with file.open("wb") as written:
        written.truncate(size)
    return file


def test_an_upload_that_breaks_off_goes_on_by_itself_where_it_was(
    admin: Visitor, tmp_path: Path
) -> None:
    page = admin.see("/admin/restore/")
    offsets = offsets_sent(page, [False, True, True, False])
    page.get_by_label("The backup file").set_input_files(large(tmp_path))
    page.get_by_text("It goes on by itself.").wait_for()
    page.get_by_text("large.age is here").wait_for()
    assert offsets == ["0", *[str(16 * MIB)] * 3]
    admin.said.clear()
    admin.check()


def test_after_the_last_failure_the_same_file_can_be_chosen_again(
    admin: Visitor, tmp_path: Path
) -> None:
    file = large(tmp_path, 17 * MIB)
    page = admin.see("/admin/restore/")
    page.clock.install()
    fails = [False] + [True] * 6
    offsets = offsets_sent(page, fails)
    field = page.get_by_label("The backup file")
    field.set_input_files(file)
    for sent, pause_s in enumerate((1, 2, 4, 8, 15), start=2):
        page.get_by_text("It goes on by itself.").wait_for()
        page.clock.run_for(pause_s * 1000 + 50)
        while len(offsets) <= sent:
            page.wait_for_timeout(20)
    page.get_by_text("Choose the file again").wait_for()
    assert fails == []
    # The same file in the same field is no change, unless the field was emptied before.
    with page.expect_file_chooser() as chooser:
        field.click()
    assert field.input_value() == ""
    chooser.value.set_files(file)
    page.get_by_text("large.age is here").wait_for()
    assert offsets == ["0", *[str(16 * MIB)] * 7]


def test_a_refusal_that_lasts_is_said_at_once(admin: Visitor, tmp_path: Path) -> None:
    page = admin.see("/admin/restore/")
    problem = '{"detail": "an upload may have 5 bytes at most", "hint": "Smaller.", "code": "x"}'
    page.route("**/api/v1/uploads/**", lambda route: route.fulfill(status=413, body=problem))
    page.get_by_label("The backup file").set_input_files(large(tmp_path, 100))
    page.get_by_text("an upload may have 5 bytes at most. Smaller.").wait_for()


def test_a_piece_grows_with_the_file(admin: Visitor, tmp_path: Path) -> None:
    """1 TB, of which nothing is on a disk: the first piece is one of at most 5,000."""
    page = admin.see("/admin/restore/")
    sizes: list[int] = []

    def end(route: Route) -> None:
        sizes.append(int(route.request.headers["upload-length"]))
        route.fulfill(status=507, body="{}")

    page.route("**/api/v1/uploads/**", end)
    page.evaluate(
        """() => { const slice = File.prototype.slice;
            File.prototype.slice = function (from, to) {
                window.piece = to - from; return slice.call(this, 0, 10); };
            Object.defineProperty(File.prototype, "size", { get: () => 1e12 }); }"""
    )
    page.get_by_label("The backup file").set_input_files(large(tmp_path, 100))
    page.get_by_text("The service answered 507").wait_for()
    assert sizes == [10**12]
    piece = page.evaluate("window.piece")
    assert piece % MIB == 0 and piece * 5_000 >= 10**12


def test_a_file_is_brought_by_a_plain_form_where_no_script_runs(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    with window(browser, site.where, script=False, width=PHONE, scheme="dark") as plain:
        plain.enter(site.house.session("everything"))
        page = plain.see("/admin/restore/")
        page.locator("#plain-file").set_input_files(large(tmp_path))
        page.get_by_role("button", name="Upload it").click()
        page.get_by_text("The file is here: 21.0 MB").wait_for()
        assert page.get_by_label("A file from this computer").is_checked()
        ask(page)
        page.get_by_role("button", name="Look again").wait_for()


# Parts of a page


def ask(page: Page) -> None:
    page.get_by_label("Key file, or the line").fill(X25519Identity.generate().encode())
    page.get_by_role("button", name="Check it").click()


@pytest.fixture
def checking(admin: Visitor, tmp_path: Path) -> Visitor:
    """Checks that wait for their turn: nobody makes them here."""
    page = admin.see("/admin/restore/")
    page.get_by_label("The backup file").set_input_files(large(tmp_path, 100))
    page.get_by_text("large.age is here").wait_for()
    ask(page)
    page.get_by_text("It waits for its turn").wait_for()
    return admin


def test_checks_that_the_service_does_not_know_any_more_are_looked_for_again(
    checking: Visitor, site: Site
) -> None:
    page = checking.page
    checking.check()
    site.house.restoring.context.previews._entries.clear()
    site.house.restoring.context.previews._waiting.clear()
    page.get_by_text("What was checked is not here any more").wait_for()
    checking.said.clear()  # The browser notes the status 404.
    checking.check()
    page.get_by_role("button", name="Look again").click()
    page.get_by_text("It waits for its turn").wait_for()
    checking.check()


def test_an_error_takes_the_place_of_its_part_and_a_moments_silence_does_not(
    checking: Visitor,
) -> None:
    page = checking.page
    page.route("**/previews/**", lambda route: route.fulfill(status=503, body="<b>proxy</b>"))
    page.get_by_text("This page asks again by itself").wait_for()
    assert page.get_by_text("proxy").count() == 0
    page.unroute("**/previews/**")
    page.get_by_text("It waits for its turn").wait_for()
    page.route("**/previews/**", lambda route: route.abort())
    page.get_by_text("This page asks again by itself").wait_for()
    page.unroute("**/previews/**")
    page.get_by_text("It waits for its turn").wait_for()
    nowhere = "/admin/restore/nowhere"
    page.route("**/previews/**", lambda route: route.continue_(url=checking.restore + nowhere))
    expect(page.get_by_role("alert")).to_contain_text("there is no such page here")


def test_a_page_that_looks_by_itself_does_not_keep_its_session(
    checking: Visitor, site: Site
) -> None:
    """It goes idle with polls every second, and then says at the door why it ended."""
    page = checking.page
    with page.expect_request("**/previews/**") as poll:
        pass
    assert poll.value.headers["x-background"] == "1"
    site.house.clock.pass_(minutes=29)
    with page.expect_response("**/previews/**"):
        pass
    site.house.clock.pass_(minutes=1)
    page.get_by_text("Nobody used it for a while").wait_for()
