"""Whoever holds one permission alone comes to a page that it may see, and sees what it may act on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from backup_service import events as bev
from serving.caller import PERMISSIONS
from shared.eventstore import EventMeta, NewEvent
from shared.messages import between
from tests.accessing import HASHER, PASSWORD
from tests.callers import House
from tests.openhouse import say_of_the_log
from tests.plugins.postgres import TestPostgres
from tests.showing import prove, show_everything

FIRST = {
    "read": "/admin/backups", "create": "/admin/backups/new", "restore": "/admin/restore",
    "approve": "/admin/restore", "read_audit": "/admin/audit",
}  # fmt: skip


@pytest.fixture(scope="module")
def house(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("single") / "house")
    made.execute("UPDATE instance.users SET password_hash = %s", HASHER.hash(PASSWORD))
    with made.stack, pytest.MonkeyPatch.context() as patch:
        say_of_the_log(patch)
        yield made


@pytest.fixture(scope="module")
def ids(house: House) -> dict[str, str]:
    return show_everything(house)


def see(house: House, service: str, path: str, who: str) -> Any:
    client = house.apps[service].test_client(use_cookies=False)
    return client.get(path, headers=house.session(who))


@pytest.mark.parametrize("service", ["backup", "restore"])
@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
def test_signing_in_leads_to_the_first_page_that_a_person_may_see(
    house: House, service: str, permission: str
) -> None:
    house.execute("DELETE FROM access.attempts")
    prefix = {"backup": "/admin", "restore": "/admin/restore"}[service]
    client = house.apps[service].test_client()
    form = {"name": permission, "password": PASSWORD}
    entered = client.post(f"{prefix}/sign-in", data=form)
    assert (entered.status_code, entered.headers["Location"]) == (303, f"{prefix}/home")
    first = client.get(entered.headers["Location"])
    if permission in FIRST:
        assert first.headers["Location"] == FIRST[permission]
        there = house.apps["restore" if "restore" in FIRST[permission] else "backup"]
        headers = house.session(permission)
        page = there.test_client(use_cookies=False).get(
            FIRST[permission], headers=headers, follow_redirects=True
        )
        assert page.status_code == 200
        assert f'href="{FIRST[permission]}"' in page.get_data(as_text=True)
    else:
        told = f"<strong>{permission.replace('_', ' ')}</strong>"
        assert first.status_code == 200
        assert told in first.get_data(as_text=True)


def test_who_approves_sees_what_waits_and_who_asked(house: House, ids: dict[str, str]) -> None:
    first = see(house, "restore", "/admin/restore/", "approve").get_data(as_text=True)
    waiting = f"/admin/restore/restores/{ids['restore awaited']}"
    assert "A restore waits for your approval" in first
    assert waiting in first
    assert 'id="choose"' not in first, "it may not restore"
    page = see(house, "restore", waiting, "approve")
    assert page.status_code == 200
    assert "Approve it" in page.get_data(as_text=True)
    assert "Of the backup" in page.get_data(as_text=True)
    assert "Cancel it" not in page.get_data(as_text=True)
    shown = see(house, "restore", f"/api/v1/restores/{house.restore_id}", "approve")
    assert shown.get_json()["restore_id"] == house.restore_id
    # Who restores is asked for nothing here.
    other = see(house, "restore", "/admin/restore/", "restore").get_data(as_text=True)
    assert "waits for your approval" not in other
    assert 'id="choose"' in other


def test_who_creates_sees_the_backup_it_made_and_no_other(
    house: House, ids: dict[str, str]
) -> None:
    headers, command_id = house.session("create"), str(uuid4())
    client = house.apps["backup"].test_client(use_cookies=False)
    form = {"command_id": command_id, "reason": "mine"}
    new = client.get("/admin/backups/new", headers=headers).get_data(as_text=True)
    assert 'href="/admin/backups"' not in new, "it may not see that page"
    made = client.post("/admin/backups", data=form, headers=headers)
    where = made.headers["Location"]
    page = client.get(where, headers=headers)
    assert (page.status_code, "mine" in page.get_data(as_text=True)) == (200, True)
    assert 'href="/admin/backups"' not in page.get_data(as_text=True)
    assert client.get(f"{where}/progress", headers=headers).status_code == 200
    backup_id = where.rpartition("/")[2]
    shown = client.get(f"/api/v1/backups/{backup_id}", headers=headers)
    assert shown.get_json()["requested_by"] == "user:create"
    for other in (ids["waiting"], str(uuid4())):
        for path in ("/admin/backups/{}", "/admin/backups/{}/progress", "/api/v1/backups/{}",
                     "/api/v1/backups/{}/events"):  # fmt: skip
            refused = client.get(path.format(other), headers=headers)
            assert refused.status_code == 403, path
    assert client.post(f"{where}/cancel", headers=headers).status_code == 303


def note(house: House, kind: str, subject: str, actor: str, **facts: Any) -> None:
    """Let backup_service have heard of a restore."""
    told = {
        "type": kind, "subject": subject, "actor": actor,
        "time": datetime.now(UTC).isoformat(), "facts": facts,
    }  # fmt: skip
    store = house.backup.store
    with house.backup.pool.connection() as conn:
        store.lock_appends(conn)
        event = NewEvent(bev.OPERATION_NOTED, told)
        store.append(conn, f"told-{uuid4()}", 0, [event], EventMeta("issuer:restore", "corr"))


def test_the_backups_page_says_that_a_restore_waits_for_the_approval_of_whoever_looks(
    house: House,
) -> None:
    # By the clock of the service, which is not that of this machine.
    later = (house.clock.now() + timedelta(hours=1)).isoformat()
    past = (house.clock.now() - timedelta(hours=1)).isoformat()
    waits, own, missed, at_once = (str(uuid4()) for _ in range(4))
    for restore_id, actor, facts in (
        (waits, "user:berta", {"reason": "the worst day", "expires_at": later}),
        (own, "user:everything", {"reason": "my own", "expires_at": later}),
        (missed, "user:berta", {"reason": "too late", "expires_at": past}),
        (at_once, "user:berta", {"reason": "at once"}),
    ):
        note(house, between.RESTORE_REQUESTED, f"restore-{restore_id}", actor, **facts)
    page = see(house, "backup", "/admin/backups", "everything").get_data(as_text=True)
    assert page.count("A restore waits for your approval") == 1
    assert f"/admin/restore/restores/{waits}" in page
    assert "the worst day" in page
    assert "waits for your approval" not in see(house, "backup", "/admin/backups", "read").get_data(
        as_text=True
    )
    note(house, between.RESTORE_APPROVED, f"restore-{waits}", "user:carla", expires_at=later)
    page = see(house, "backup", "/admin/backups", "everything").get_data(as_text=True)
    assert "waits for your approval" not in page


def test_whoever_may_see_a_restore_is_led_to_it_from_the_operations(house: House) -> None:
    restore_id = str(uuid4())
    note(house, between.RESTORE_REQUESTED, f"restore-{restore_id}", "user:berta", reason="led")
    for who in ("read", "everything"):
        page = see(house, "backup", "/admin/operations", who).get_data(as_text=True)
        link = f"/admin/restore/restores/{restore_id}"
        assert f'{link}" class="whole"' in page
        assert (
            see(house, "restore", link.replace(restore_id, house.restore_id), who).status_code
            == 200
        )


def test_who_only_creates_is_led_to_no_restore_and_no_rehearsal(house: House) -> None:
    headers, rehearsal_id = house.session("create"), str(uuid4())
    client = house.apps["backup"].test_client(use_cookies=False)
    form = {"command_id": str(uuid4()), "reason": "rehearsed"}
    where = client.post("/admin/backups", data=form, headers=headers).headers["Location"]
    facts: dict[str, Any] = {
        "rehearsal_id": rehearsal_id, "rehearsed_at": house.clock.now().isoformat(),
        "outcome": "restorable", "differing": [], "code": None,
    }  # fmt: skip
    prove(
        house.backup,
        where.rpartition("/")[2],
        NewEvent(bev.RESTORE_USES, {"restore_id": house.restore_id, "state": "restored"}),
        NewEvent(bev.REHEARSED, facts),
    )
    for who, led in (("create", False), ("read", True), ("everything", True)):
        page = see(house, "backup", where, who).get_data(as_text=True)
        assert "The instance was restored from it" in page
        for link in (f"rehearsals/{rehearsal_id}", f"restores/{house.restore_id}"):
            assert (link in page) == led, who
        assert page.count("See the rehearsal") == (2 if led else 0)
