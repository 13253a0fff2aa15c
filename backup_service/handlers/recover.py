"""After a start: what a killed process left is ended, and nothing of it remains."""

from __future__ import annotations

import structlog

from backup_service.context import SERVICE, BackupContext
from backup_service.handlers.finish import finish_failed, remove_remains
from shared.crashpoints import CrashPoint
from shared.database import postgres_faults
from shared.errors import Interrupted
from shared.eventstore import EventMeta

log = structlog.get_logger(__name__)

ABANDONED = CrashPoint("backup.recover.abandoned")
REMAINS = CrashPoint("backup.recover.remains")


def recover_backups(context: BackupContext) -> None:
    """End backups that nobody runs. Only the holder of the worker's lock may call this."""
    with postgres_faults("looking for interrupted backups"), context.pool.connection() as conn:
        running = context.history.in_state(conn, "running")
    for backup_id in running:
        log.warning("backup.recovering", backup_id=backup_id)
        ABANDONED.reach()
        fault = Interrupted("the service ended while the backup was made")
        document = {"code": fault.code, "message": fault.message, "hint": fault.advice}
        finish_failed(context, backup_id, document, EventMeta(SERVICE, backup_id))
    with postgres_faults("looking for remains"), context.pool.connection() as conn:
        ended = [*context.history.in_state(conn, "failed")[-100:]]
        ended += context.history.in_state(conn, "cancelled")[-100:]
    REMAINS.reach()
    for backup_id in ended:
        remove_remains(context, backup_id)
