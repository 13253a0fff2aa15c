"""Backups with their objects and receipts, held and deleted as a caller does, without a log.

with storing(place, tmp_path) as context:        # empty, on a clock that a test sets
    old = an_old_one(context)                    # nothing but holds keeps it
    hold(context, old, until=...); delete(context, old)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from backup_service import events as ev
from backup_service.commands import DeleteBackup, HoldBackup
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.hold_backup import hold_backup
from serving.requester import Requester
from shared.eventstore import NewEvent
from tests.clock import HandClock
from tests.keeping import append, created, offline_context
from tests.plugins.postgres import PlaceDatabase

Json = dict[str, Any]
CALLER = Requester("anna", frozenset({"hold", "delete"}), "test", "corr-1")


@contextmanager
def storing(place: PlaceDatabase, folder: Path) -> Iterator[BackupContext]:
    """Make the context of one process over an empty history."""
    made = offline_context(place.dsn("secryn_backup"), folder, HandClock())
    with made.pool.connection() as conn:
        # One database for a whole module: what another test left is not of this folder.
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
