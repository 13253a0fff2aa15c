"""kill -9 while a backup is read back or purged, and while the history is made anew: the next does it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg
import pytest

from backup_service import events as ev
from backup_service.configuration.verification import Verification
from backup_service.context import BackupContext, object_name
from backup_service.handlers.purge_backup import Ground, purge_backup
from backup_service.handlers.rebuild_history import rebuild_history
from backup_service.handlers.tend_backups import tend_backups
from backup_service.verification import worker
from backup_service.verification.worker import verify_next
from shared.crashpoints import ENV, CrashPoint
from shared.errors import ConflictError
from tests import forked
from tests.clock import HandClock
from tests.integration.test_verification import ADMIN, events, stored, verified
from tests.keeping import offline_context, own
from tests.plugins.faults import Points
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres

forked.preload(__name__)
READ_BACK: Final = sorted(
    name for name in CrashPoint.declared if name.startswith(("backup.verify.", "backup.verification."))
)  # fmt: skip
# Every other point is died at in tests/integration/test_purge.py.
PURGED: Final = ("backup.purge.start_committed", "backup.purge.object_deleted")
REBUILT: Final = sorted(name for name in CrashPoint.declared if name.startswith("backup.rebuild."))


def read_back(dsn: str, folder: Path, points: str | None) -> None:
    """Verify what is due, with the day of the test over."""
    if points is not None:
        os.environ[ENV] = points
    clock = HandClock()
    clock.pass_(days=2)
    context = offline_context(dsn, folder, clock)
    setattr(worker, "present_plan", lambda _context, _conn: Verification(every_s=86_400))  # noqa: B010
    with psycopg.connect(dsn, autocommit=True) as conn:
        verify_next(context, conn, threading.Event())


def rebuild(dsn: str, folder: Path, points: str | None) -> None:
    """Make the history anew."""
    if points is not None:
        os.environ[ENV] = points
    rebuild_history(offline_context(dsn, folder, HandClock()), ADMIN)


def purge(dsn: str, folder: Path, points: str | None, backup_id: str) -> None:
    """Delete a backup by hand."""
    if points is not None:
        os.environ[ENV] = points
    context = offline_context(dsn, folder, HandClock())
    ground = Ground("by_hand", None, "a test", "anna", "test", "corr-1")
    purge_backup(context, backup_id, ground)


@pytest.mark.parametrize("point", PURGED)
def test_a_purge_that_dies_is_finished_once_by_whoever_works_next(
    postgres: TestPostgres, tmp_path: Path, point: str
) -> None:
    dsn = postgres.fresh_place().dsn("secryn_backup")
    folder = tmp_path / "points"
    folder.mkdir()
    clock = HandClock()
    context = offline_context(dsn, tmp_path, clock)
    try:
        backup_id = stored(context)
        clock.pass_(days=1)
        own(context)
        killed_at(Points(folder), point, purge, dsn, tmp_path, str(folder), backup_id)
        there = {info.name for info in context.objects.list()}
        assert shown(context, backup_id)["state"] == "purging"
        assert (object_name(backup_id) in there) == (point == "backup.purge.start_committed")
        for _ in range(2):
            tend_backups(context)
        assert shown(context, backup_id)["state"] == "purged"
        assert not any(info.name.startswith(backup_id) for info in context.objects.list())
        assert [len(events(context, kind)) for kind in (ev.PURGE_STARTED, ev.PURGED)] == [1, 1]
    finally:
        context.pool.close()


@pytest.mark.parametrize("point", [*READ_BACK, *REBUILT])
def test_a_process_that_dies_leaves_nothing_half_and_the_next_one_does_it_once(
    postgres: TestPostgres, tmp_path: Path, point: str
) -> None:
    dsn = postgres.fresh_place().dsn("secryn_backup")
    folder = tmp_path / "points"
    folder.mkdir()
    context = offline_context(dsn, tmp_path, HandClock())
    try:
        backup_id = stored(context)
        before = shown(context, backup_id)
        work = rebuild if point in REBUILT else read_back
        killed_at(Points(folder), point, work, dsn, tmp_path, str(folder))
        if point in REBUILT:
            assert shown(context, backup_id) == before
            assert eventually(lambda: rebuilt(context), "the dead one's lock is free") == 1
            assert shown(context, backup_id) == before
            return
        done = point == "backup.verify.committed"
        assert verified(context) == ([backup_id] if done else [])
        forked.start(read_back, dsn, tmp_path, None).join(60)
        assert verified(context) == [backup_id]
        assert len(events(context, ev.DAMAGED)) == 0
        (event,) = events(context, ev.VERIFIED)
        assert event.occurred_at == context.clock.now() + timedelta(days=2)
    finally:
        context.pool.close()


def rebuilt(context: BackupContext) -> int | None:
    """Rebuild; None while the server has not noticed yet that the one before is gone."""
    with suppress(ConflictError):
        return int(rebuild_history(context, ADMIN)["backups"])
    return None


def killed_at(points: Points, point: str, work: Callable[..., None], *arguments: object) -> None:
    """Kill a process that does ``work`` at a point."""
    points.arm(point)
    process = forked.start(work, *arguments)
    points.wait(point)
    forked.kill(process)
    points.release()


def shown(context: BackupContext, backup_id: str) -> dict[str, object]:
    with context.pool.connection() as conn:
        return context.history.get(conn, backup_id)
