"""Deletion by hand, and what keeps a backup from it: downloads, restores and their undo windows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from backup_service import events as ev
from backup_service.commands import DeleteBackup
from backup_service.context import BackupContext
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.download_backup import begin_download, download
from backup_service.handlers.note_use import note_use
from shared.backupuse import using_backup
from shared.errors import (
    BackupInUse,
    BackupNeeded,
    ConflictError,
    MessageUnreadable,
    NewestBackup,
    NotConfirmed,
    SignatureInvalid,
)
from shared.eventstore import NewEvent
from shared.instance.reading import ANNOUNCE
from shared.messages import CloudEvent, Issuer
from shared.messages.between import (
    RESTORE_ABORTED,
    RESTORE_APPROVED,
    RESTORE_COMPLETED,
    RESTORE_REQUESTED,
)
from tests.keeping import append
from tests.plugins.postgres import PlaceDatabase, TestPostgres
from tests.stored import (
    CALLER,
    Json,
    a_backup,
    an_old_one,
    assert_untouched,
    clock,
    delete,
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


def test_another_id_typed_deletes_nothing(context: BackupContext) -> None:
    backup_id, other = an_old_one(context), str(uuid4())
    with pytest.raises(NotConfirmed):
        delete_backup(context, backup_id, DeleteBackup(reason="x", confirm=other), CALLER)
    assert_untouched(context, backup_id)


def test_the_newest_that_counts_is_never_deleted(context: BackupContext) -> None:
    backup_id = a_backup(context)
    a_backup(context, viewed=False)
    with pytest.raises(NewestBackup):
        delete(context, backup_id)
    assert_untouched(context, backup_id)


def test_one_that_is_being_downloaded_is_not_deleted_until_its_bytes_are_out(
    context: BackupContext,
) -> None:
    backup_id = an_old_one(context)
    running_out = download(context, backup_id, (0, 1), begin_download(context, backup_id))
    assert next(running_out) == b"x"
    with pytest.raises(BackupInUse):
        delete(context, backup_id)
    assert_untouched(context, backup_id)
    assert list(running_out) == []
    assert delete(context, backup_id)["state"] == "purged"
    with pytest.raises(ConflictError, match="is purged"):
        begin_download(context, backup_id)


def test_a_download_that_died_keeps_it_only_for_a_while(context: BackupContext) -> None:
    backup_id = an_old_one(context)
    begin_download(context, backup_id)
    with context.pool.connection() as conn:
        conn.execute("UPDATE backup.leases SET until = until - interval '3 minutes'")
    assert delete(context, backup_id)["state"] == "purged"


def test_one_that_restore_service_works_with_is_not_deleted(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backup_id = an_old_one(context)
    with using_backup(place.dsn("secryn_restore"), UUID(backup_id)):
        with pytest.raises(BackupInUse):
            delete(context, backup_id)
        assert_untouched(context, backup_id)
    assert delete(context, backup_id)["state"] == "purged"


@contextmanager
def undoable(place: PlaceDatabase, restore_id: UUID) -> Iterator[None]:
    """Keep what a restore replaced, as restore_service does within the window."""
    with psycopg.connect(place.dsn(), autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA instance_before_{restore_id.hex}".encode())
        yield
        conn.execute(f"DROP SCHEMA instance_before_{restore_id.hex}".encode())


def test_what_an_undo_window_needs_and_every_newer_one_is_not_deleted(
    context: BackupContext, place: PlaceDatabase
) -> None:
    older, source, newer, restore_id = *(a_backup(context) for _ in range(3)), uuid4()
    a_backup(context)
    until = (clock(context).now() + timedelta(hours=24)).isoformat()
    used = {
        "restore_id": str(restore_id),
        "state": "restored",
        "asked_until": None,
        "undo_until": until,
    }
    append(context, source, NewEvent(ev.RESTORE_USES, used))
    with undoable(place, restore_id):
        for backup_id in (source, newer):
            with pytest.raises(BackupNeeded):
                delete(context, backup_id)
            assert_untouched(context, backup_id)
        assert delete(context, older)["state"] == "purged"
        clock(context).pass_(hours=24)
        # The window is over, and what was replaced is not dropped yet.
        assert delete(context, newer)["state"] == "purged"
    assert delete(context, source)["state"] == "purged"


def test_while_it_is_not_known_what_a_restore_came_from_nothing_is_deleted(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backup_id = an_old_one(context)
    with undoable(place, uuid4()), pytest.raises(BackupNeeded):
        delete(context, backup_id)
    assert_untouched(context, backup_id)


def test_one_that_a_restore_was_asked_for_with_is_not_deleted(context: BackupContext) -> None:
    backup_id, restore_id = an_old_one(context), str(uuid4())
    expires_at = clock(context).now() + timedelta(days=3)
    asked: Json = {"restore_id": restore_id, "backup_id": backup_id}
    tell(context, RESTORE_REQUESTED, **asked, expires_at=expires_at.isoformat())
    clock(context).pass_(days=3)
    later = (clock(context).now() + timedelta(days=1)).isoformat()
    tell(context, RESTORE_APPROVED, restore_id=restore_id, expires_at=later)
    clock(context).pass_(days=1)
    with pytest.raises(BackupInUse):
        delete(context, backup_id)
    # Its end is never told: the history of the restores was lost.
    clock(context).pass_(days=1)
    assert delete(context, backup_id)["state"] == "purged"


def tell(context: BackupContext, kind: str, permission: str = ANNOUNCE, **data: Any) -> CloudEvent:
    """Tell of a restore as restore_service does, or as somebody else would."""
    event = CloudEvent(kind, "/test", json.dumps(data).encode(), time=clock(context).now())
    issuer = Issuer("restore_service", context.signer.public, frozenset({permission}))
    note_use(context, event, issuer)
    return event


def test_a_restore_keeps_its_backup_from_its_request_to_the_end_of_its_undo_window(
    context: BackupContext,
) -> None:
    backup_id, restore_id = an_old_one(context), str(uuid4())
    # Each comes at least once.
    for _ in range(2):
        tell(context, RESTORE_REQUESTED, restore_id=restore_id, backup_id=backup_id)
    with pytest.raises(BackupInUse):
        delete(context, backup_id)
    told: Json = {"restore_id": restore_id, "backup_id": backup_id, "undo_window_s": 3600}
    for _ in range(2):
        tell(context, RESTORE_COMPLETED, **told)
    until = (clock(context).now() + timedelta(hours=1)).isoformat()
    uses = shown(context, backup_id)["restores"]
    assert uses == {restore_id: {"state": "restored", "asked_until": None, "undo_until": until}}
    assert types(context, backup_id).count(ev.RESTORE_USES) == 2


def test_a_restore_that_did_not_come_about_keeps_its_backup_no_longer(
    context: BackupContext,
) -> None:
    backup_id, restore_id = an_old_one(context), str(uuid4())
    tell(context, RESTORE_REQUESTED, restore_id=restore_id, backup_id=backup_id)
    # The end of a restore does not name the backup.
    tell(context, RESTORE_ABORTED, restore_id=restore_id)
    assert delete(context, backup_id)["state"] == "purged"


def test_a_restore_of_another_history_or_told_by_a_stranger_keeps_nothing(
    context: BackupContext,
) -> None:
    backup_id = an_old_one(context)
    tell(context, RESTORE_REQUESTED, restore_id=str(uuid4()), backup_id=str(uuid4()))
    tell(context, RESTORE_REQUESTED, restore_id=str(uuid4()), backup_id=None)
    tell(context, RESTORE_ABORTED, restore_id=str(uuid4()))
    with pytest.raises(SignatureInvalid):
        tell(context, RESTORE_REQUESTED, "create", restore_id=str(uuid4()), backup_id=backup_id)
    with pytest.raises(MessageUnreadable):
        tell(context, RESTORE_REQUESTED, restore_id="none", backup_id=backup_id)
    assert shown(context, backup_id)["restores"] == {}
