"""Holds, deletion by hand and the steps of a purge, on a real PostgreSQL and a real folder.

A process that is killed is one that gets no further than a crash point: what it had not committed
is gone, and another one, made for the same place, goes on from what is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from backup_service import events as ev
from backup_service.commands import DeleteBackup, HoldBackup, ReleaseBackup
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers import hold_backup as holding
from backup_service.handlers import purge_backup as purging
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.download_backup import begin_download, download
from backup_service.handlers.hold_backup import hold_backup, release_backup
from backup_service.handlers.note_use import note_use
from backup_service.handlers.tend_backups import tend_backups
from backup_service.handlers.watch_keys import watch_keys
from backup_service.verification.metrics import StoredBackupMetrics
from serving.requester import Requester
from shared.backupuse import using_backup
from shared.crashpoints import CrashPoint
from shared.errors import (
    AccessError,
    BackupHeld,
    BackupInUse,
    BackupNeeded,
    BackupNotFound,
    BackupPurging,
    ConflictError,
    HoldNotFound,
    MessageUnreadable,
    NewestBackup,
    NotConfirmed,
    SecrynError,
    SignatureInvalid,
    UnavailableError,
    UsageError,
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
from shared.storage import LocalFolder
from tests.clock import HandClock
from tests.keeping import append, created, offline_context, running
from tests.plugins.postgres import PlaceDatabase, TestPostgres

Json = dict[str, Any]
CALLER = Requester("anna", frozenset({"hold", "delete"}), "test", "corr-1")


@pytest.fixture(scope="module")
def place(postgres: TestPostgres) -> PlaceDatabase:
    return postgres.fresh_place()


@pytest.fixture
def context(place: PlaceDatabase, tmp_path: Path) -> Iterator[BackupContext]:
    made = offline_context(place.dsn("secryn_backup"), tmp_path, HandClock())
    with made.pool.connection() as conn:
        # One database for the whole module: what another test left is not of this folder.
        conn.execute("TRUNCATE backup.events, backup.backups, backup.leases, backup.waiting_keys")
    yield made
    made.pool.close()


def clock(context: BackupContext) -> HandClock:
    assert isinstance(context.clock, HandClock)
    return context.clock


def a_backup(context: BackupContext, *, viewed: bool = True) -> str:
    """Make a backup with its object and receipt, half an hour after the one before."""
    clock(context).pass_(minutes=30)
    backup_id = created(context)
    at = clock(context).now().isoformat()
    append(
        context, backup_id, NewEvent(ev.CREATED, {"started_at": at, "size_bytes": 1, "sha256": "0"})
    )
    if viewed:
        append(context, backup_id, NewEvent(ev.KEY_VIEWED, {}))
    for name in (object_name(backup_id), receipt_name(backup_id)):
        writer = context.objects.create(name)
        writer.write(b"x")
        writer.commit()
    return backup_id


def an_old_one(context: BackupContext, *, viewed: bool = True) -> str:
    """Make a backup, and a newer one that counts, so that nothing but holds keeps it."""
    old = a_backup(context, viewed=viewed)
    a_backup(context)
    return old


def shown(context: BackupContext, backup_id: str) -> Json:
    with context.pool.connection() as conn:
        return context.history.get(conn, backup_id)


def types(context: BackupContext, backup_id: str) -> list[str]:
    with context.pool.connection() as conn:
        return [e.type for e in context.store.read_stream(conn, ev.stream_of(backup_id))]


def objects(context: BackupContext, backup_id: str) -> list[str]:
    return [info.name for info in context.objects.list(backup_id)]


def hold(context: BackupContext, backup_id: str, holder: str | None = None, **named: Any) -> Json:
    command = HoldBackup(reason="a case", holder=holder, **named)
    return hold_backup(context, backup_id, command, CALLER)


def delete(context: BackupContext, backup_id: str, command_id: UUID | None = None) -> Json:
    command = DeleteBackup(command_id=command_id or uuid4(), reason="old", confirm=backup_id)
    return delete_backup(context, backup_id, command, CALLER)


def assert_untouched(context: BackupContext, backup_id: str) -> None:
    assert shown(context, backup_id)["state"] == "created"
    assert len(objects(context, backup_id)) == 2
    assert ev.PURGE_STARTED not in types(context, backup_id)


# Holds


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


# Deletion by hand


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


def test_a_purged_backup_stays_in_the_history_with_when_why_and_by_whom(
    context: BackupContext,
) -> None:
    backup_id = an_old_one(context, viewed=False)
    found = delete(context, backup_id)
    assert found["purged"] == {"why": "by_hand", "rule": None, "reason": "old", "by": "anna"}
    assert found["purged_at"]
    assert (found["purge"], found["key_state"]) == (None, "destroyed")
    assert objects(context, backup_id) == []
    assert not (context.settings.keys.folder / f"{backup_id}.kek").exists()
    with context.pool.connection() as conn:
        row = conn.execute(
            "SELECT sealed_waiting, sealed_viewed FROM backup.waiting_keys WHERE backup_id = %s",
            (backup_id,),
        ).fetchone()
        assert row == (None, None)
        context.history.rebuild(conn)
        assert context.history.get(conn, backup_id) == found
    for again in (delete, hold):
        with pytest.raises(BackupPurging):
            again(context, backup_id)


# Crashes and two at once


class Killed(BaseException):
    """The process gets no further."""


POINTS = [point.name for point in vars(purging).values() if isinstance(point, CrashPoint)]


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Have whoever reaches the point get no further."""

    def die(point: CrashPoint) -> None:
        if point.name == name:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(CrashPoint, "reach", die)
        yield


@pytest.mark.parametrize("name", POINTS)
def test_killed_at_any_step_the_purge_is_finished_once_by_another_process(
    context: BackupContext, place: PlaceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:  # fmt: skip
    backup_id = an_old_one(context, viewed=False)
    with dying(monkeypatch, name):
        delete(context, backup_id)
    other = offline_context(place.dsn("secryn_backup"), tmp_path, context.clock)
    try:
        tend_backups(other)
        if name == purging.STARTING.name:
            # Nothing was decided: nothing happens.
            assert_untouched(other, backup_id)
            return
        assert shown(other, backup_id)["state"] == "purged"
        found = types(other, backup_id)
        assert (found.count(ev.PURGE_STARTED), found.count(ev.PURGED)) == (1, 1)
        assert objects(other, backup_id) == []
        watch_keys(other)
        assert not (other.settings.keys.folder / f"{backup_id}.kek").exists()
    finally:
        other.pool.close()


def test_killed_while_a_hold_is_put_on_it_is_there_once_or_not_at_all(
    context: BackupContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_id, command = an_old_one(context), HoldBackup(command_id=uuid4(), reason="a case")
    with dying(monkeypatch, holding.HOLDING.name):
        hold_backup(context, backup_id, command, CALLER)
    assert shown(context, backup_id)["holds"] == []
    assert len(hold_backup(context, backup_id, command, CALLER)["holds"]) == 1
    assert types(context, backup_id).count(ev.HELD) == 1


def test_killed_while_a_hold_ends_it_ends_once(
    context: BackupContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_id = an_old_one(context)
    hold(context, backup_id, until=clock(context).now() + timedelta(hours=1))
    clock(context).pass_(hours=1)
    with dying(monkeypatch, holding.EXPIRING.name):
        tend_backups(context)
    assert len(shown(context, backup_id)["holds"]) == 1
    tend_backups(context)
    assert types(context, backup_id).count(ev.HOLD_EXPIRED) == 1


def test_every_point_of_a_hold_and_of_a_purge_is_died_at_here() -> None:
    ours = ("backup.hold.", "backup.purge.")
    holds = {holding.HOLDING.name, holding.EXPIRING.name}
    assert {*POINTS, *holds} == {n for n in CrashPoint.declared if n.startswith(ours)}


def test_of_twenty_at_once_one_purges_and_the_others_are_told(context: BackupContext) -> None:
    backup_id = an_old_one(context)

    def once(_: int) -> str:
        try:
            return str(delete(context, backup_id)["state"])
        except BackupPurging:
            return "told"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(once, range(20)))
    assert sorted(answers) == ["purged", *["told"] * 19]
    assert types(context, backup_id).count(ev.PURGED) == 1


def test_a_hold_and_a_deletion_at_once_never_both_succeed(context: BackupContext) -> None:
    for _ in range(5):
        backup_id = an_old_one(context)

        def attempt(action: Callable[[BackupContext, str], Json], one: str = backup_id) -> bool:
            try:
                action(context, one)
            except SecrynError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            held, deleted = pool.map(attempt, (hold, delete))
        assert held != deleted
        assert bool(objects(context, backup_id)) == held


# A storage that refuses


class Locked(LocalFolder):
    """A folder with a lock on its objects: deleting fails, or is answered and does nothing."""

    refusing: bool = True
    silent: bool = False
    away: bool = False

    def delete(self, name: str) -> None:
        if self.refusing and not self.silent:
            raise UnavailableError(f"deleting {name} failed: object lock")
        if not self.refusing:
            super().delete(name)

    def stat(self, name: str) -> Any:
        if self.away:
            raise UnavailableError("looking failed")
        return super().stat(name)


@pytest.fixture
def locked(context: BackupContext) -> BackupContext:
    return replace(context, objects=Locked(context.settings.storage.folder))


@pytest.mark.parametrize("silent", [False, True])
def test_a_storage_that_refuses_leaves_the_backup_as_it_is_and_is_asked_again_later(
    locked: BackupContext, silent: bool
) -> None:
    storage = locked.objects
    assert isinstance(storage, Locked)
    storage.silent = silent
    backup_id = an_old_one(locked)
    found = delete(locked, backup_id)
    assert (found["state"], found["key_state"]) == ("created", "viewed")
    assert found["purge"]["error"]["code"] in ("unavailable", "storage.deletion_refused")
    assert refused_purges(locked) == 1
    assert list(download(locked, backup_id, (0, 1), begin_download(locked, backup_id))) == [b"x"]
    waits: list[int] = []
    for _ in range(3):
        tend_backups(locked)
        assert types(locked, backup_id).count(ev.PURGE_REFUSED) == len(waits) + 1
        clock(locked).pass_(minutes=2 ** len(waits))
        waits.append(shown(locked, backup_id)["purge"]["attempts"])
        tend_backups(locked)
    assert waits == [1, 2, 3]
    storage.refusing = False
    clock(locked).pass_(hours=6)
    tend_backups(locked)
    assert shown(locked, backup_id)["state"] == "purged"
    assert objects(locked, backup_id) == []
    assert refused_purges(locked) == 0


def refused_purges(context: BackupContext) -> float:
    found = {metric.name: metric.samples for metric in StoredBackupMetrics(context).collect()}
    return float(found["secryn_backup_purges_refused"][0].value)


def test_a_hold_that_comes_after_a_refusal_ends_the_tries(locked: BackupContext) -> None:
    backup_id = an_old_one(locked)
    delete(locked, backup_id)
    hold(locked, backup_id)
    clock(locked).pass_(hours=6)
    tend_backups(locked)
    found = shown(locked, backup_id)
    assert (found["state"], found["purge"]) == ("created", None)
    assert types(locked, backup_id)[-1] == ev.PURGE_GIVEN_UP


def test_a_storage_that_does_not_even_answer_leaves_it_purging_and_is_asked_again(
    locked: BackupContext,
) -> None:
    storage = locked.objects
    assert isinstance(storage, Locked)
    backup_id = an_old_one(locked)
    storage.away = True
    assert delete(locked, backup_id)["state"] == "purging"
    storage.away = storage.refusing = False
    clock(locked).pass_(minutes=1)
    tend_backups(locked)
    assert shown(locked, backup_id)["state"] == "purged"
