"""What the page of the backups warns of, each with what to do; and the story of one backup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from backup_service import events as ev
from backup_service.configuration.schedule import Schedule
from backup_service.configuration.staleness import Staleness
from backup_service.retention.policy import RetentionPolicy
from backup_service.web.story import TOLD
from shared.eventstore import EventMeta, NewEvent
from shared.messages import between
from tests.callers import House
from tests.openhouse import say_of_the_log
from tests.plugins.postgres import TestPostgres
from tests.showing import stored_backup, waiting_backup

DAMAGED = {"intact": False, "code": "archive.altered", "message": "it has other content"}
INTACT = {"intact": True, "code": None, "message": None}
SETTING = "INSERT INTO instance.settings (name, value, updated_at, updated_by) VALUES (%s, %s, now(), 'x')"


@pytest.fixture
def house(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("health") / "house")
    with pytest.MonkeyPatch.context() as patch, made.stack:
        say_of_the_log(patch)
        yield made


def see(house: House, path: str = "", name: str = "everything") -> str:
    """Return the text of a page, as a person reads it."""
    client = house.apps["backup"].test_client(use_cookies=False)
    answer = client.get(f"/admin/backups{path}", headers=house.session(name))
    assert answer.status_code == 200
    shown = answer.get_data(as_text=True).partition("<main")[2]
    parted = re.sub(r"</?(dt|dd|div|p|li|h[1-4]|th|td|a)\b[^>]*>", " ", shown)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", parted)).split())


def test_a_place_in_order_is_warned_of_nothing(house: House) -> None:
    stored_backup(house.backup)
    page = see(house)
    assert "In step" in page
    for warning in ("expire", "cannot be read", "not what", "does not follow"):
        assert warning not in page


def test_a_store_that_stands_still_is_not_in_step(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_of_the_log(monkeypatch, lag=3, high_watermark=1237, stands_still=True)
    page = see(house)
    assert "In step" not in page
    assert "Stands still 3 events behind, and not moving" in page
    assert "written since log offset 1,234" in page
    assert "secryn status" in page and "secryn instance skip-event" in page
    assert "look again in a minute" in page, "it may be at work on something long"


def test_damaged_backups_are_named(house: House) -> None:
    first = stored_backup(house.backup, NewEvent(ev.VERIFIED, {"outcome": DAMAGED}))
    page = see(house)
    assert "A stored backup is not what it was" in page and "counts for nothing" in page
    assert "Make a new backup" in page and "secryn storage check" in page
    for _ in range(3):
        stored_backup(house.backup, NewEvent(ev.VERIFIED, {"outcome": DAMAGED}))
    assert ", and more count for nothing" in see(house)
    whole = stored_backup(house.backup)
    listed = (
        house.apps["backup"]
        .test_client(use_cookies=False)
        .get(damaged_link(house), headers=house.session("everything"))
        .get_data(as_text=True)
    )
    assert f"/admin/backups/{first}" in listed
    assert f"/admin/backups/{whole}" not in listed.partition('id="history"')[2]
    assert "Have a new backup made" in see(house, name="read")
    assert "Stored file damaged: it has other content" in see(house, f"/{first}")


def damaged_link(house: House) -> str:
    """Return where the page leads to for the damaged backups that it does not name."""
    client = house.apps["backup"].test_client(use_cookies=False)
    page = client.get("/admin/backups", headers=house.session("everything")).get_data(as_text=True)
    found = re.search(r'href="([^"]*)">more</a>', page)
    assert found is not None
    return html.unescape(found[1])


def test_a_key_that_is_about_to_expire_is_warned_of_whatever_waits_beside_it(house: House) -> None:
    old = waiting_backup(house.backup)
    house.clock.pass_(days=5, hours=1)
    for _ in range(4):
        waiting_backup(house.backup)
        house.clock.pass_(seconds=1)
    page = see(house)
    assert "A key is about to expire" in page and "gone for good in 2 days" in page
    assert page.count("A key waits to be stored") == 3
    assert "Ask somebody with the permission view key" in see(house, name="read")
    detail = see(house, f"/{old}")
    assert "Not viewed yet, waits until 1 Dec 2026, 12:02 UTC" in detail
    assert "In 2 days it is gone for good" in detail
    house.clock.pass_(days=2)
    assert "A key waits past its time" in see(house)
    assert "It waits past its time" in see(house, f"/{old}")


def test_a_setting_that_cannot_be_read_is_named_with_where_to_set_it(house: House) -> None:
    for model in (Schedule, RetentionPolicy, Staleness):
        house.execute(SETTING, model.setting(), Jsonb({"nonsense": 1}))
    page = see(house)
    assert "The schedule that is stored cannot be read" in page
    assert "no backup is made by itself" in page and "nothing is purged" in page
    assert "PUT /api/v1/configuration/staleness" in page


def test_a_rehearsal_that_found_a_difference_is_not_called_a_success(house: House) -> None:
    for outcome, told in (
        ("restorable", "Restorable"), ("differs", "Differs"), ("failed", "Failed"),
    ):  # fmt: skip
        facts = {
            "rehearsal_id": str(uuid4()), "rehearsed_at": house.clock.now().isoformat(),
            "outcome": outcome, "differing": ["users"] if outcome == "differs" else [],
            "code": "archive.damaged" if outcome == "failed" else None,
        }  # fmt: skip
        page = see(house, "/" + stored_backup(house.backup, NewEvent(ev.REHEARSED, facts)))
        assert f"Rehearsed {told}, 24 Nov 2026" in page
        assert f"Rehearsed: {outcome}" in page and "See the rehearsal" in page
        assert ("users" in page.partition("Rehearsed")[2][:80]) == (outcome == "differs")


def test_the_story_says_what_happened_when_and_by_whom(house: House) -> None:
    restore_id = str(uuid4())
    note(house, f"restore-{restore_id}", "user:berta")
    backup_id = stored_backup(
        house.backup,
        NewEvent(ev.HELD, {"holder": "legal", "reason": "an audit", "until": None}),
        NewEvent(ev.RESTORE_USES, {"restore_id": restore_id, "state": "restored"}),
        *[NewEvent(ev.VERIFIED, {"outcome": INTACT}) for _ in range(3)],
        NewEvent(ev.RELEASED, {"holder": "legal", "reason": "it is over"}),
        NewEvent(ev.PURGE_STARTED, {"why": "retention", "rule": "keep_last", "reason": ""}),
        NewEvent(ev.PURGED, {}),
    )
    story = see(house, f"/{backup_id}").partition("What happened to it")[2]
    told = (
        "Asked for", "Begun", "Proven", "Key viewed", "Held for legal: an audit",
        "The instance was restored from it", "Stored file checked: intact",
        "Hold of legal released: it is over",
        "Purge begun: it is not among the newest that are kept", "Purged",
    )  # fmt: skip
    places = [story.index(word) for word in told]
    assert places == sorted(places)
    assert story.count("Stored file checked") == 1, "those that found nothing are one line"
    assert story.count("by user:<i>anna</i>") == len(told) - 1
    assert "by user:berta" in story, "who asked for the restore, and not who told of it"


def note(house: House, subject: str, actor: str) -> None:
    """Let the list of operations know who asked for a restore."""
    told = {
        "subject": subject, "type": between.RESTORE_REQUESTED, "actor": actor, "facts": {},
        "time": house.clock.now().isoformat(),
    }  # fmt: skip
    by = EventMeta("issuer:restore_service", "corr")
    with house.backup.pool.connection() as conn:
        house.backup.store.append(conn, subject, 0, [NewEvent(ev.OPERATION_NOTED, told)], by)


def test_of_a_long_story_the_newest_is_told(house: House) -> None:
    hold = {"holder": "legal", "reason": "again", "until": None}
    backup_id = stored_backup(house.backup, *[NewEvent(ev.HELD, hold) for _ in range(TOLD)])
    assert "4 events before these are left out" in see(house, f"/{backup_id}")
