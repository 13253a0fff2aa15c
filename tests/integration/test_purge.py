"""The steps of a purge, on a real PostgreSQL and a real folder.

A process that is killed is one that gets no further than a crash point: what it had not committed
is gone, and another one, made for the same place, goes on from what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backup_service import events as ev
from backup_service.commands import HoldBackup
from backup_service.context import BackupContext
from backup_service.handlers import hold_backup as holding
from backup_service.handlers import purge_backup as purging
from backup_service.handlers.download_backup import begin_download, download
from backup_service.handlers.hold_backup import hold_backup
from backup_service.handlers.tend_backups import tend_backups
from backup_service.handlers.watch_keys import watch_keys
from backup_service.verification.metrics import StoredBackupMetrics
from shared.crashpoints import CrashPoint
from shared.errors import (
    BackupPurging,
    SecrynError,
    UnavailableError,
)
from shared.storage import LocalFolder
from tests.keeping import offline_context
from tests.plugins.postgres import PlaceDatabase, TestPostgres
from tests.stored import (
    CALLER,
    Json,
    an_old_one,
    assert_untouched,
    clock,
    delete,
    hold,
    objects,
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
