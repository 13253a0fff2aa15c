"""Holds: each holder has an own one, and all keep a backup, on a real PostgreSQL and a real folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from backup_service import events as ev
from backup_service.commands import DeleteBackup, HoldBackup, ReleaseBackup
from backup_service.context import BackupContext
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.hold_backup import hold_backup, release_backup
from backup_service.handlers.tend_backups import tend_backups
from shared.errors import (
    AccessError,
    BackupHeld,
    BackupNotFound,
    ConflictError,
    HoldNotFound,
    UsageError,
)
from tests.keeping import running
from tests.plugins.postgres import PlaceDatabase, TestPostgres
from tests.stored import (
    CALLER,
    an_old_one,
    assert_untouched,
    clock,
    delete,
    hold,
    shown,
    storing,
    types,
)


@pytest.fixture(scope="module")
def place(postgres: TestPostgres) -> PlaceDatabase:
    return postgres.fresh_place()


@pytest.fixture
def context(place: PlaceDatabase, tmp_path: Path) -> Iterator[BackupContext]:
    with storing(place, tmp_path) as made:
        yield made


def test_each_holder_has_an_own_hold_and_all_have_to_release_it(context: BackupContext) -> None:
    backup_id = an_old_one(context)
    hold(context, backup_id, "legal")
    held = hold(context, backup_id)
    assert [one["holder"] for one in held["holds"]] == ["anna", "legal"]
    release_backup(context, backup_id, ReleaseBackup(reason="over"), CALLER)
    with pytest.raises(BackupHeld, match=r"legal \(a case\)"):
        delete(context, backup_id)
    assert_untouched(context, backup_id)
    release_backup(context, backup_id, ReleaseBackup(reason="over", holder="legal"), CALLER)
    assert delete(context, backup_id)["state"] == "purged"


def test_a_holders_new_hold_replaces_the_old_one(context: BackupContext) -> None:
    backup_id = an_old_one(context)
    hold(context, backup_id, until=clock(context).now() + timedelta(days=1))
    (only,) = hold(context, backup_id)["holds"]
    assert only["until"] is None


def test_a_hold_ends_at_its_time_and_says_so_once(context: BackupContext) -> None:
    backup_id = an_old_one(context)
    hold(context, backup_id, "legal", until=clock(context).now() + timedelta(hours=1))
    hold(context, backup_id, "audit")
    tend_backups(context)
    assert len(shown(context, backup_id)["holds"]) == 2
    clock(context).pass_(hours=1)
    tend_backups(context)
    tend_backups(context)
    assert [one["holder"] for one in shown(context, backup_id)["holds"]] == ["audit"]
    assert types(context, backup_id).count(ev.HOLD_EXPIRED) == 1


def test_a_hold_that_is_over_keeps_nothing_even_before_that_is_told(context: BackupContext) -> None:
    backup_id = an_old_one(context)
    hold(context, backup_id, until=clock(context).now() + timedelta(hours=1))
    clock(context).pass_(hours=1)
    assert delete(context, backup_id)["state"] == "purged"


def test_the_same_command_again_changes_nothing(context: BackupContext) -> None:
    backup_id = an_old_one(context)
    held = HoldBackup(command_id=uuid4(), reason="a case")
    released = ReleaseBackup(command_id=uuid4(), reason="over")
    for _ in range(2):
        hold_backup(context, backup_id, held, CALLER)
    for _ in range(2):
        release_backup(context, backup_id, released, CALLER)
    assert hold_backup(context, backup_id, held, CALLER)["holds"] == []
    found = types(context, backup_id)
    assert (found.count(ev.HELD), found.count(ev.RELEASED)) == (1, 1)
    command_id = uuid4()
    assert delete(context, backup_id, command_id) == delete(context, backup_id, command_id)
    assert types(context, backup_id).count(ev.PURGE_STARTED) == 1


def test_a_bad_hold_is_refused_and_changes_nothing(context: BackupContext) -> None:
    backup_id = an_old_one(context)
    with pytest.raises(UsageError, match="is past"):
        hold(context, backup_id, until=clock(context).now())
    with pytest.raises(BackupNotFound):
        hold(context, str(uuid4()))
    with pytest.raises(ConflictError, match="nothing to hold"):
        hold(context, running(context))
    with pytest.raises(HoldNotFound):
        release_backup(context, backup_id, ReleaseBackup(reason="x", holder="nobody"), CALLER)
    stranger = replace(CALLER, permissions=frozenset({"read"}))
    with pytest.raises(AccessError):
        hold_backup(context, backup_id, HoldBackup(reason="x"), stranger)
    with pytest.raises(AccessError):
        release_backup(context, backup_id, ReleaseBackup(reason="x"), stranger)
    with pytest.raises(AccessError):
        confirmed = DeleteBackup(reason="x", confirm=backup_id)
        delete_backup(context, backup_id, confirmed, stranger)
    assert_untouched(context, backup_id)
    assert shown(context, backup_id)["holds"] == []
