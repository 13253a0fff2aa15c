"""How a backup ends that did not come about: recorded, and nothing of it left."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog

from backup_service import events as ev
from backup_service.context import BackupContext, object_name, receipt_name
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import postgres_faults
from shared.errors import Cancelled, ConcurrencyConflict, PostgresUnavailable
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

FAILING = CrashPoint("backup.fail.appended")
CLEARED = CrashPoint("backup.fail.uncommitted")
FAILED = CrashPoint("backup.fail.committed")


def finish_failed(
    context: BackupContext, backup_id: str, fault: dict[str, Any], meta: EventMeta
) -> None:
    """Record that a backup failed or was cancelled, and delete what it left.

    The deletion happens inside the transaction, behind the append: a BackupCreated that was on
    its way either stands by then, and nothing is deleted, or can come no more.
    """
    kind = ev.CANCELLED if fault["code"] == Cancelled.code else ev.FAILED
    event = NewEvent(kind, {"backup_id": backup_id, "error": fault}, BACKUP_EVENTS)
    entry = AuditEntry(
        "backup.create", "failure", meta.actor, "backup", backup_id,
        code=fault["code"], message=fault["message"],
    )  # fmt: skip
    while True:
        try:
            with postgres_faults("recording the failure"), context.pool.connection() as conn:
                backup = context.history.load(conn, backup_id)
                if backup.ended:
                    if backup.state != "created":
                        # Another process took this one for dead, and we went on meanwhile.
                        remove_remains(context, backup_id)
                    return
                context.history.append(conn, backup_id, backup.version, [event], meta)
                context.audit.record(conn, entry, meta.correlation_id)
                FAILING.reach()
                remove_remains(context, backup_id)
                CLEARED.reach()
        except ConcurrencyConflict:
            continue
        except PostgresUnavailable:
            # Recovery at the next start finds it running without a runner.
            log.warning("backup.failure_unrecorded", backup_id=backup_id, code=fault["code"])
            return
        FAILED.reach()
        log.warning("backup.failed", backup_id=backup_id, code=fault["code"],
                    reason=fault["message"])  # fmt: skip
        return


def remove_remains(context: BackupContext, backup_id: str) -> None:
    """Delete whatever a backup that did not come about left; may be repeated."""
    for name in (object_name(backup_id), receipt_name(backup_id)):
        context.objects.sweep(name)
        context.objects.delete(name)
    context.keys.keks.destroy_or_later(UUID(backup_id))
