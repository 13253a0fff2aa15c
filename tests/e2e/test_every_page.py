"""Every page in every state, in a browser, without a stack: both services' pages over one database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page

from tests.accessing import HASHER, PASSWORD
from tests.callers import BOOTSTRAP_TOKEN, House
from tests.manybackups import insert
from tests.openhouse import Site, opened, say_of_the_log
from tests.plugins.postgres import TestPostgres
from tests.showing import MARKUP, show_everything, stored_backup
from tests.visiting import DESK, PHONE, Visitor, window

LOOKS = [(DESK, "light"), (PHONE, "dark")]


@pytest.fixture(scope="module")
def no_log() -> Iterator[None]:
    """There is no Kafka here: what the pages say of the log is said by the test."""
    with pytest.MonkeyPatch.context() as patch:
        say_of_the_log(patch)
        yield


@pytest.fixture(scope="module")
def site(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, no_log: None
) -> Iterator[Site]:
    house = House.create(postgres, tmp_path_factory.mktemp("house"))
    with house.stack, opened(house) as where:
        yield Site(house, where, show_everything(house))


@pytest.fixture(scope="module")
def empty_site(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, no_log: None
) -> Iterator[Site]:
    house = House.create(postgres, tmp_path_factory.mktemp("empty"), empty=True)
    with house.stack, opened(house) as where:
        yield Site(house, where, {})


MANY = 10_000
PROMISED_S = 0.1
# Of backups that the history has, as far as it goes.
MANY_OPERATIONS = """
INSERT INTO backup.operations
SELECT 'op-' || requested_position, requested_position, requested_position, 'backup', requested_by,
    'backup', backup_id, 'succeeded', NULL, reason, requested_at, requested_at, 'corr', '{}'
FROM backup.backups
"""
MANY_ENTRIES = """
INSERT INTO backup.events (stream, version, type, data, event_id, occurred_at, actor,
    correlation_id, causation_id, extensions)
SELECT 'audit', n, 'x', jsonb_build_object('seq', n, 'time', '2026-11-24T12:00:00+00:00',
        'actor', '{"user": {"name": "anna"}}'::jsonb, 'api', '{"operation": "key.view"}'::jsonb,
        'resources', '[{"type": "key", "uid": "b-1"}]'::jsonb,
        'src_endpoint', '{"name": "http:127.0.0.1"}'::jsonb, 'status', 'Success',
        'status_code', '', 'status_detail', '', 'hash', md5(n::text)),
    gen_random_uuid(), now(), 'anna', 'corr', '', '{}'
FROM generate_series((SELECT coalesce(max(version), 0) + 1 FROM backup.events
    WHERE stream = 'audit'), 10000) AS n
"""
PAGES = [
    "/admin/backups", "/admin/backups?state=failed", "/admin/backups?text=nothing-has-this",
    "/admin/backups/new", "/admin/backups/{asked}", "/admin/backups/{running}",
    "/admin/backups/{waiting}", "/admin/backups/{damaged}", "/admin/backups/{own}",
    "/admin/backups/{failed}", "/admin/backups/{cancelled}", "/admin/backups/{purging}",
    "/admin/backups/{purged}", "/admin/backups/{waiting}/key", "/admin/backups/{viewed}/key",
    "/admin/backups/{own}/key", "/admin/schedule", "/admin/operations",
    "/admin/operations?actor=nobody", "/admin/audit", "/admin/audit?outcome=success",
    "/admin/audit?actor=nobody", "/admin/audit/chain", "/admin/sign-in",
    "/admin/sign-in?because=access.sign_in_refused", "/admin/sign-in?left_out=1", "/admin/sign-in?ended=restored",
    "/admin/prove", "/admin/prove?because=access.sign_in_refused",
    "/admin/first",
    "/admin/restore/", "/admin/restore/restores/{restore running}",
    "/admin/restore/restores/{restore awaited}", "/admin/restore/restores/{restore approved}",
    "/admin/restore/restores/{restore restored}", "/admin/restore/restores/{restore failed}",
    "/admin/restore/rehearsals/{rehearsal running}",
    "/admin/restore/rehearsals/{rehearsal done}", "/admin/restore/rehearsals/{rehearsal differs}",
    "/admin/restore/rehearsals/{rehearsal failed}", "/admin/restore/audit",
    "/api/v1/docs",
]  # fmt: skip


@pytest.fixture
def everything(browser: Browser, site: Site) -> Iterator[Visitor]:
    with window(browser, site.where) as found:
        found.enter(site.house.session("everything"))
        yield found


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_anybody_can_use_every_page_in_every_state(
    browser: Browser, site: Site, width: int, scheme: str
) -> None:
    with window(browser, site.where, width=width, scheme=scheme) as found:
        found.enter(site.house.session("everything"))
        for path in PAGES:
            page = found.see(path.format(**site.ids))
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            found.check()
            text = page.locator("main").inner_text()
            assert "It did not succeed" not in text, path
            assert "<script>" not in text or MARKUP in text, path


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_an_empty_place_says_how_to_begin(
    browser: Browser, empty_site: Site, width: int, scheme: str
) -> None:
    """The first time, in the browser: the credential, the administrator, nothing there yet."""
    with window(browser, empty_site.where, width=width, scheme=scheme) as found:
        page = found.see("/admin/first")
        found.check()
        page.get_by_label("Bootstrap credential").fill(BOOTSTRAP_TOKEN)
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("heading", name="The first administrator").wait_for()
        found.check()
        for path, told in (
            ("/admin/backups", "No backup yet"),
            ("/admin/operations", "Nothing here"),
            ("/admin/restore/", "A file from this computer"),
        ):
            assert found.see(path).get_by_text(told).first.is_visible()
            found.check()


def test_the_chain_is_checked_when_its_page_is_opened_and_the_first_bad_entry_named(
    everything: Visitor, site: Site
) -> None:
    page = everything.see("/admin/restore/audit")
    chain = page.get_by_role("region", name="The chain")
    chain.get_by_text("Intact").wait_for()
    page.get_by_label("Action").fill("token")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("row").filter(has_text="token.create").first.wait_for()
    with page.expect_download() as file:
        page.get_by_role("link", name="Export what is shown").click()
    assert b'"token.create"' in file.value.path().read_bytes()
    with site.house.restoring.context.pool.connection() as conn:
        conn.execute(
            'UPDATE restore.events SET data = data || \'{"status": "Success"}\' '
            "WHERE stream = 'audit' AND version = 2"
        )
        conn.execute(
            'UPDATE restore.events SET data = data || \'{"status_code": "x"}\' '
            "WHERE stream = 'audit' AND version = 2"
        )
    page.reload()
    page.get_by_text("Entry 2 was changed").wait_for()
    everything.check()


def test_a_list_that_is_replaced_keeps_the_keyboards_place(everything: Visitor, site: Site) -> None:
    page = everything.see("/admin/operations")
    found = page.locator("#operations")
    for link in (
        found.get_by_role("link", name="Backup", exact=True),
        found.get_by_text("View key"),
    ):
        link.last.focus()
        before = page.evaluate("document.activeElement.id")
        assert before
        page.evaluate(
            "new Promise(done => { document.addEventListener('htmx:afterSettle', done, {once: true});"
            "htmx.trigger(document.getElementById('operations'), 'changed'); })"
        )
        assert page.evaluate("document.activeElement.id") == before


def test_a_backup_that_is_asked_for_is_cancelled(everything: Visitor, site: Site) -> None:
    page = everything.see(f"/admin/backups/{site.ids['asked']}")
    page.get_by_role("button", name="Cancel it").click()
    page.get_by_text("It was cancelled").wait_for()
    everything.check()


def test_a_backup_is_deleted_by_its_typed_id_and_a_proof_on_the_way_loses_nothing(
    browser: Browser, site: Site
) -> None:
    old = stored_backup(site.house.backup)
    site.house.clock.pass_(seconds=1)
    newest = stored_backup(site.house.backup)
    with_password(site.house, "everything")
    with window(browser, site.where) as found:
        found.enter(site.house.session("everything", age_s=301))
        page = found.see(f"/admin/backups/{old}")
        delete(page, "no longer needed", old)
        page.get_by_role("heading", name="Once more, please").wait_for()
        found.said.clear()  # The browser notes the status 403.
        found.check()
        page.get_by_label("Password").fill("not it")
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Go on").click()
        page.get_by_text("It was purged").wait_for()
        assert page.get_by_text("no longer needed").first.is_visible()
        found.said.clear()
        found.check()
        page = found.see(f"/admin/backups/{newest}")
        delete(page, "a mistake", "another id")
        assert page.get_by_text("backup.delete_not_confirmed").is_visible()


def test_another_person_approves_and_then_the_key_is_asked_for_again(
    everything: Visitor, site: Site
) -> None:
    page = everything.see(f"/admin/restore/restores/{site.ids['restore awaited']}")
    page.get_by_role("button", name="Approve it").click()
    page.get_by_role("heading", name="Approved by user:everything").wait_for()
    everything.check()
    page.get_by_label("Key file").fill("not a key")
    page.get_by_role("button", name="Replace everything").click()
    assert page.get_by_text("key.malformed").is_visible()
    everything.said.clear()
    page.get_by_role("button", name="Cancel it").click()
    page.get_by_text("Cancelled").first.wait_for()
    everything.check()


def with_password(house: House, name: str) -> None:
    house.execute(
        "UPDATE instance.users SET password_hash = %s WHERE username = %s",
        HASHER.hash(PASSWORD), name,
    )  # fmt: skip


def delete(page: Page, reason: str, typed: str) -> None:
    page.get_by_text("Delete it for good").click()
    page.locator("#delete-reason").fill(reason)
    page.locator("#confirm").fill(typed)
    page.get_by_role("button", name="Delete this backup").click()


def test_a_page_takes_a_tenth_of_a_second_at_ten_thousand_backups(empty_site: Site) -> None:
    """The best of several: what else this machine does at the time is not the page's."""
    house = empty_site.house
    insert(house.backup.history, house.backup.pool, MANY, seed=1)
    house.execute(MANY_OPERATIONS)
    house.execute(MANY_ENTRIES)
    folder = Path(house.restoring.context.backups.location.removeprefix("file:"))
    for _ in range(MANY):
        name = f"{uuid4()}.age"
        (folder / name).touch()
        (folder / name.replace(".age", ".receipt.json")).touch()
    taken = {}
    for service, path in (
        ("backup", "/admin/backups"), ("backup", "/admin/backups?state=failed&sort=size_bytes"),
        ("backup", "/admin/operations"), ("backup", "/admin/schedule"), ("backup", "/admin/audit"),
        ("backup", "/admin/audit?actor=nobody"),
        ("restore", "/admin/restore/"),
    ):  # fmt: skip
        client = house.apps[service].test_client()
        tries: list[float] = []
        while len(tries) < 5 or (min(tries) > PROMISED_S and len(tries) < 50):
            began = time.perf_counter()
            assert client.get(path, headers=house.bearer("token")).status_code == 200
            tries.append(time.perf_counter() - began)
        taken[path] = min(tries)
    assert max(taken.values()) < PROMISED_S, taken
